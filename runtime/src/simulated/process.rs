//! A process of a simulation: whether it lives, how long its calls take, and what happens to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::turn::Turn;
use crate::chance::seeded::Numbers;

thread_local! {
    static CURRENT: RefCell<Life> = RefCell::default();
}

/// What all processes of a world share.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    started: Instant,
    lines: Mutex<Vec<String>>,
    troubled: AtomicBool,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            turn: Arc::default(),
            started: Instant::now(),
            lines: Mutex::default(),
            troubled: false.into(),
        })
    }

    /// Whether things go wrong now.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Relaxed)
    }

    pub(crate) fn trouble(&self, is_troubled: bool) {
        self.troubled.store(is_troubled, Relaxed);
    }

    pub(crate) fn say(&self, who: &str, text: &str) {
        let at = self.started.elapsed().as_secs_f64();
        lock(&self.lines).push(format!("{at:9.3} {who:<12} {text}"));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }
}

/// One life of an instance of a service.
pub(crate) struct Process {
    name: String,
    shared: Arc<Shared>,
    /// One at a time writes to the database.
    writing: Arc<tokio::sync::Mutex<()>>,
    dead: AtomicBool,
    frozen_until: Mutex<Option<Instant>>,
    database_away_until: Mutex<Option<Instant>>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    bus: Mutex<Option<AbortHandle>>,
    /// As long as the program, as that of a real process.
    cautious: &'static RwLock<()>,
}

impl Process {
    pub(crate) fn new(name: String, shared: Arc<Shared>, writing: Arc<tokio::sync::Mutex<()>>) -> Arc<Self> {
        Arc::new(Self {
            name,
            shared,
            writing,
            dead: false.into(),
            frozen_until: Mutex::default(),
            database_away_until: Mutex::default(),
            calls: Mutex::default(),
            bus: Mutex::default(),
            cautious: Box::leak(Box::new(RwLock::const_new(()))),
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        self.shared.say(&self.name, &text());
    }

    /// What is aborted when it is killed.
    pub(crate) fn runs(&self, bus: AbortHandle) {
        *lock(&self.bus) = Some(bus);
    }

    /// From now on nothing of it reaches anybody.
    pub(crate) fn kill(&self, whence: &str) {
        self.dead.store(true, Relaxed);
        self.say(|| format!("is killed {whence}"));
        if let Some(bus) = lock(&self.bus).take() {
            bus.abort();
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub(crate) fn freeze(&self, time: Duration) {
        *lock(&self.frozen_until) = Some(Instant::now() + time);
        self.say(|| format!("is frozen for {time:?}"));
    }

    pub(crate) fn lose_database(&self, time: Duration) {
        *lock(&self.database_away_until) = Some(Instant::now() + time);
        self.say(|| format!("can't reach its database for {time:?}"));
    }

    /// Numbers for the next call of this name: by the seed, the process and the call alone, so that no other call changes
    /// them.
    pub(crate) fn draw(&self, call: &'static str) -> Numbers {
        let mut calls = lock(&self.calls);
        let count = calls.entry(call).or_default();
        *count += 1;
        Numbers::named(self.shared.seed, &[&self.name, call], *count)
    }

    /// The way of a call, or of its answer. Never ends for a dead process.
    pub(crate) async fn travel(&self, draw: &mut Numbers) {
        let time = match draw.below(1000) {
            0..900 => draw.below(3),
            900..990 => draw.below(40),
            _ if self.shared.is_troubled() => draw.below(3_000),
            _ => 0,
        };
        tokio::time::sleep(Duration::from_millis(time)).await;
        self.thaw().await;
    }

    /// Whether it lives and is not frozen.
    pub(super) fn is_up(&self) -> bool {
        !self.is_dead() && lock(&self.frozen_until).is_none_or(|until| Instant::now() >= until)
    }

    /// Waits while it is frozen, and for ever once it is dead.
    pub(super) async fn thaw(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = *lock(&self.frozen_until);
            match until.filter(|until| Instant::now() < *until) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    fn has_database(&self) -> bool {
        lock(&self.database_away_until).is_none_or(|until| Instant::now() >= until)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The process that something belongs to, if it belongs to a simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    process: Option<Arc<Process>>,
}

impl Life {
    pub(crate) fn of(process: &Arc<Process>) -> Self {
        Self { process: Some(Arc::clone(process)) }
    }

    /// That of what is built just now on this thread.
    pub(crate) fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Builds something that belongs to it.
    pub(crate) fn building<T>(self, build: impl FnOnce() -> T) -> T {
        struct Built;
        impl Drop for Built {
            fn drop(&mut self) {
                CURRENT.take();
            }
        }
        CURRENT.set(self);
        let _built = Built;
        build()
    }

    /// Who may run beside whom in it, where it is simulated (rule 11).
    pub(crate) fn cautious(&self) -> Option<&'static RwLock<()>> {
        self.process.as_ref().map(|process| process.cautious)
    }

    /// It has decided to handle an event, and may be held up before it does: for longer than its lease, even.
    pub(crate) async fn handling(&self) {
        let Some(process) = &self.process else { return };
        let mut draw = process.draw("handling");
        if process.shared.is_troubled() && draw.happens(6) {
            let time = Duration::from_millis(draw.below(60_000));
            process.say(|| format!("is held up for {time:?} before it handles an event"));
            tokio::time::sleep(time).await;
        }
        process.thaw().await;
    }

    /// Waits until it may use the database.
    pub(crate) async fn turn(&self, writes: bool) -> Result<Turn, sqlx::Error> {
        let Some(process) = &self.process else { return Ok(Turn::default()) };
        process.travel(&mut process.draw("database")).await;
        if !process.has_database() {
            return Err(connection_lost());
        }
        let writing = if writes { Some(Arc::clone(&process.writing).lock_owned().await) } else { None };
        Ok(Turn::take(process, writing).await)
    }
}

pub(super) fn connection_lost() -> sqlx::Error {
    let kind = std::io::ErrorKind::ConnectionReset;
    sqlx::Error::Io(std::io::Error::new(kind, "the simulation has cut the connection to the database"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
