//! The tasks of a simulation: one that has the turn keeps its thread until it gives the turn up, so that nothing of what a
//! database takes in real time decides what happens next.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long, in real time, a future may do nothing before it is taken to wait for the simulated time.
const PATIENCE: Duration = Duration::from_secs(3);

thread_local! {
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Whether somebody on this thread has the turn.
pub(super) fn at_work(is_at_work: bool) {
    AT_WORK.set(is_at_work);
}

/// A future as a task of a simulation, or, where there is none, as it is.
pub(crate) async fn task<F: Future>(future: F) -> F::Output {
    if super::now().is_none() {
        return future.await;
    }
    // No turn is cut short because the task has had its share of the thread.
    let mut future = pin!(tokio::task::unconstrained(future));
    // While it waits for time although it has the turn; others go on meanwhile.
    let mut waits = false;
    std::future::poll_fn(|context| {
        let signal = Arc::new(Signal {
            thread: std::thread::current(),
            outside: context.waker().clone(),
            is_given: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&signal));
        let mut context = Context::from_waker(&waker);
        if std::mem::take(&mut waits) {
            at_work(true);
        }
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Poll::Ready(output);
            }
            if !AT_WORK.get() {
                return Poll::Pending;
            }
            if !signal.comes() {
                waits = true;
                at_work(false);
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Wakes a thread that waits, and the task.
struct Signal {
    thread: Thread,
    outside: Waker,
    is_given: AtomicBool,
}

impl Signal {
    /// Waits for it; `false` when it doesn't come.
    fn comes(&self) -> bool {
        let end = Instant::now() + PATIENCE;
        while !self.is_given.swap(false, AcqRel) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::park_timeout(left);
        }
        true
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_given.store(true, std::sync::atomic::Ordering::Release);
        self.thread.unpark();
        self.outside.wake_by_ref();
    }
}
