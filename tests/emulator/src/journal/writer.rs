//! Writes what comes while the disk is busy in one go, and says how far it got.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::frame;

/// How far the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many inputs are on the disk.
    Durable(u64),
    /// Nothing more will be.
    Failed(Arc<str>),
}

/// A thread that writes inputs and waits for the disk.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    inputs: u64,
    stop: bool,
}

impl Writer {
    /// `lock` keeps other processes out for as long as the thread lives.
    pub(crate) fn start(journal: File, path: PathBuf, lock: File) -> Self {
        let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let (sender, progress) = watch::channel(Progress::Durable(0));
        let taken = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            if let Err(error) = write(journal, &taken, &sender) {
                sender.send_replace(Progress::Failed(format!("{}: {error}", path.display()).into()));
            }
            drop(lock);
        });
        Self { queue, progress, thread: Some(thread) }
    }

    /// Queues an encoded input and returns its number: it is durable when progress has come that far.
    pub(crate) fn append(&self, input: &[u8]) -> u64 {
        let mut queue = guard(&self.queue.0);
        queue.bytes.extend_from_slice(input);
        queue.inputs += 1;
        self.queue.1.notify_one();
        queue.inputs
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Inputs that were appended.
    pub(crate) fn appended(&self) -> u64 {
        guard(&self.queue.0).inputs
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        guard(&self.queue.0).stop = true;
        self.queue.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told by the progress that ended.
            drop(thread.join());
        }
    }
}

fn guard(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(
    mut journal: File,
    queue: &(Mutex<Queue>, Condvar),
    progress: &watch::Sender<Progress>,
) -> io::Result<()> {
    // The header is frame 0.
    let mut number = 1;
    let mut payload = Vec::new();
    loop {
        payload.clear();
        let mut guard = guard(&queue.0);
        while guard.bytes.is_empty() {
            if guard.stop {
                return Ok(());
            }
            guard = queue.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut payload, &mut guard.bytes);
        let inputs = guard.inputs;
        drop(guard);
        journal.write_all(&frame::encode(number, &payload))?;
        journal.sync_data()?;
        number += 1;
        progress.send_replace(Progress::Durable(inputs));
    }
}
