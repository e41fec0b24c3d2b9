//! What a bus's loops show of themselves while they run, for whoever asks after its health. No loop decides by it, but that
//! others are not told of what this bus alone deals with.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// How far a bus has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has run it.
    #[default]
    NotStarted,
    /// Waits for its database and its brokers.
    Starting,
    /// Its loops run.
    Running,
    /// Its loops finish what is under way.
    Stopping,
    /// It has run.
    Ended,
}

/// Which loop it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Relays the outbox of this lane.
    OutboxRelay(String),
    /// Fills the inbox of this subscription.
    InboxRelay(String),
    /// Runs the handlers of this subscription.
    Processor(String),
    /// Anything that is only seen when it breaks.
    Other,
}

/// What a loop was last told by its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing so far.
    Unknown,
    /// Something.
    Good,
    /// Nothing, for all that was asked since then.
    Missing { since: Instant, error: String },
}

/// A loop as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When it last came round.
    pub(crate) at: Instant,
    /// Whether it has ended by itself, as it may where there is nothing for it to do.
    pub(crate) ended: bool,
    /// The leases that it holds.
    pub(crate) holds: usize,
    pub(crate) broker: Answer,
    /// How often it has panicked, and when it did last.
    pub(crate) panics: u32,
    pub(crate) panicked_at: Option<Instant>,
}

/// One loop's pulse.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) name: String,
    pub(crate) role: Role,
    seen: Mutex<Seen>,
}

impl Beat {
    pub(crate) fn new(name: impl Into<String>, role: Role) -> Arc<Self> {
        let seen = Seen {
            at: Instant::now(),
            ended: false,
            holds: 0,
            broker: Answer::Unknown,
            panics: 0,
            panicked_at: None,
        };
        Arc::new(Self { name: name.into(), role, seen: Mutex::new(seen) })
    }

    /// Of a loop that nobody looks at.
    pub(crate) fn unwatched() -> Arc<Self> {
        Self::new("", Role::Other)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// The loop has come round.
    pub(crate) fn beat(&self) {
        self.lock().at = Instant::now();
    }

    /// It holds so many leases now.
    pub(crate) fn holds(&self, leases: usize) {
        let mut seen = self.lock();
        seen.holds = leases;
        // What the broker is like is for the next holder to say.
        if leases == 0 && matches!(self.role, Role::OutboxRelay(_)) {
            seen.broker = Answer::Unknown;
        }
    }

    pub(crate) fn broker_answered(&self) {
        self.lock().broker = Answer::Good;
    }

    pub(crate) fn broker_failed(&self, error: impl Display) {
        let mut seen = self.lock();
        let since = match &seen.broker {
            Answer::Missing { since, .. } => *since,
            _ => Instant::now(),
        };
        seen.broker = Answer::Missing { since, error: error.to_string() };
    }

    pub(crate) fn panicked(&self) {
        let mut seen = self.lock();
        seen.panics = seen.panics.saturating_add(1);
        seen.panicked_at = Some(Instant::now());
        seen.holds = 0;
    }

    pub(crate) fn ended(&self) {
        let mut seen = self.lock();
        seen.ended = true;
        seen.holds = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pulse of a bus.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    state: Mutex<(Phase, Vec<Arc<Beat>>)>,
}

impl Pulse {
    pub(crate) fn look(&self) -> (Phase, Vec<Arc<Beat>>) {
        self.lock().clone()
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.lock().0 = phase;
    }

    /// How many leases the loop of this role holds.
    pub(crate) fn holds(&self, role: &Role) -> usize {
        self.lock().1.iter().filter(|beat| beat.role == *role).map(|beat| beat.lock().holds).sum()
    }

    /// From now on this loop is watched, too.
    pub(crate) fn watch(&self, beat: &Arc<Beat>) {
        self.lock().1.push(Arc::clone(beat));
    }

    /// Begins a run, which ends with the returned value.
    pub(crate) fn run(&self) -> Run<'_> {
        *self.lock() = (Phase::Starting, Vec::new());
        Run(self)
    }

    fn lock(&self) -> MutexGuard<'_, (Phase, Vec<Arc<Beat>>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run of a bus, however it ends.
#[derive(Debug)]
pub(crate) struct Run<'a>(&'a Pulse);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        *self.0.lock() = (Phase::Ended, Vec::new());
    }
}
