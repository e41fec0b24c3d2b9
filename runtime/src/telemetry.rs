//! What the loops tell of: incidents, to the log and to the bus's hook.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::envelope::EventId;

/// Something that went wrong and that the library has dealt with: for alerts, not for decisions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incident {
    /// What kind.
    pub kind: IncidentKind,
    /// Which loop tells of it, for example `outbox relay of lane default`.
    pub source: String,
    /// The event it concerns, if one.
    pub event: Option<EventId>,
    /// The event's name, if one.
    pub name: Option<String>,
    /// What happened.
    pub message: String,
}

/// The kinds of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncidentKind {
    /// The broker can't be reached or is busy; the lane waits, then goes on.
    BrokerUnavailable,
    /// A topic can't take events; it waits, then is tried again.
    TopicHeld,
    /// The database can't be reached or refuses; the loop waits, then goes on.
    DatabaseTrouble,
    /// A handler failed; its event is tried again.
    HandlerFailed,
    /// An event ended dead: it needs a person.
    EventDead,
    /// A lease was lost to another instance, which goes on with its work.
    LeaseLost,
    /// An event waits for an instance that can handle it (a rolling deployment).
    WaitingForInstance,
    /// Something in the configuration or the environment weakens a promise.
    Warning,
}

type Hook = dyn Fn(&Incident) + Send + Sync;

/// Where incidents go: always to the log, and to the hook if there is one.
#[derive(Clone, Default)]
pub(crate) struct Incidents {
    hook: Option<Arc<Hook>>,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents").field("hook", &self.hook.is_some()).finish()
    }
}

impl Incidents {
    pub(crate) fn with_hook(hook: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }

    pub(crate) fn report(&self, kind: IncidentKind, source: &str, message: impl fmt::Display) {
        self.tell(&Incident {
            kind,
            source: source.to_owned(),
            event: None,
            name: None,
            message: message.to_string(),
        });
    }

    pub(crate) fn report_event(
        &self,
        kind: IncidentKind,
        source: &str,
        event: EventId,
        name: &str,
        message: impl fmt::Display,
    ) {
        self.tell(&Incident {
            kind,
            source: source.to_owned(),
            event: Some(event),
            name: Some(name.to_owned()),
            message: message.to_string(),
        });
    }

    fn tell(&self, incident: &Incident) {
        let Incident { kind, source, event, name, message } = incident;
        match kind {
            IncidentKind::EventDead => tracing::error!(?kind, source, ?event, ?name, "{message}"),
            _ => tracing::warn!(?kind, source, ?event, ?name, "{message}"),
        }
        if let Some(hook) = &self.hook {
            // A hook that panics must not take a loop down with it.
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(incident)));
            if told.is_err() {
                tracing::error!("the incident hook panicked");
            }
        }
    }
}

/// An event's way, as the library's counters see it; read with [`EventBus::stats`](crate::EventBus::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that brokers accepted from this bus's outbox.
    pub sent: u64,
    /// Events that handlers of this bus finished.
    pub processed: u64,
    /// Attempts of handlers that failed and are tried again.
    pub retried: u64,
    /// Events that ended dead in this bus's loops.
    pub dead: u64,
    /// Received events that were there already.
    pub duplicates: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    processed: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    duplicates: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn processed(&self, count: u64) {
        self.processed.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dead(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn duplicates(&self, count: u64) {
        self.duplicates.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sent: read(&self.sent),
            processed: read(&self.processed),
            retried: read(&self.retried),
            dead: read(&self.dead),
            duplicates: read(&self.duplicates),
        }
    }
}

/// What every loop of a bus shares for telling what it does.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    pub(crate) incidents: Incidents,
    pub(crate) counters: Arc<Counters>,
}

impl Telemetry {
    /// Telemetry that goes to the log only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a hook for incidents.
    #[must_use]
    pub fn on_incident(mut self, hook: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.incidents = Incidents::with_hook(hook);
        self
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
