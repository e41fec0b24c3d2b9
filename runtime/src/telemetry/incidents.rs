//! What went wrong and was dealt with: to the log, to the bus's hook, and counted.

use std::fmt;
use std::sync::Arc;

use super::metrics::{Attributes, Metrics};
use super::names;
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

impl IncidentKind {
    /// The kind as metrics show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerUnavailable => "broker_unavailable",
            Self::TopicHeld => "topic_held",
            Self::DatabaseTrouble => "database_trouble",
            Self::HandlerFailed => "handler_failed",
            Self::EventDead => "event_dead",
            Self::LeaseLost => "lease_lost",
            Self::WaitingForInstance => "waiting_for_instance",
            Self::Warning => "warning",
        }
    }
}

type Hook = dyn Fn(&Incident) + Send + Sync;

/// Where incidents go: always to the log, and to the hook if there is one.
#[derive(Clone, Default)]
pub(crate) struct Incidents {
    hook: Option<Arc<Hook>>,
    pub(super) metrics: Metrics,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents").field("hook", &self.hook.is_some()).finish()
    }
}

impl Incidents {
    pub(super) fn hook(&mut self, hook: impl Fn(&Incident) + Send + Sync + 'static) {
        self.hook = Some(Arc::new(hook));
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
        self.metrics.count(&names::INCIDENTS, 1, &Attributes::new(&[(names::INCIDENT, kind.as_str())]));
        if let Some(hook) = &self.hook {
            // A hook that panics must not take a loop down with it.
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(incident)));
            if told.is_err() {
                tracing::error!("the incident hook panicked");
            }
        }
    }
}
