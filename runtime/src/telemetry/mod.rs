//! What the loops tell of what they do: incidents, counters, spans and metrics.
//!
//! [`manual::telemetry`](crate::manual::telemetry) lists all of it.

mod incidents;
#[cfg_attr(not(feature = "otel"), path = "unmeasured.rs")]
pub(crate) mod metrics;
pub mod names;
#[cfg_attr(not(feature = "otel"), path = "untraced.rs")]
pub(crate) mod otel;
pub(crate) mod spans;
mod stats;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) use self::incidents::Incidents;
pub use self::incidents::{Incident, IncidentKind};
use self::metrics::{Attributes, Metrics};
use self::spans::Place;
use self::stats::Counters;
pub use self::stats::Stats;
use crate::envelope::Envelope;

/// What every loop of a bus shares for telling what it does.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    pub(crate) incidents: Incidents,
    pub(crate) counters: Arc<Counters>,
    pub(crate) metrics: Metrics,
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
        self.incidents.hook(hook);
        self
    }

    /// The same on a meter of the caller's, instead of the global provider's `distributed_events`.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn meter(mut self, meter: opentelemetry::metrics::Meter) -> Self {
        self.metrics = Metrics::on(meter);
        self.incidents.metrics = self.metrics.clone();
        self
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// How an operation between a table and the broker went.
    pub(crate) fn transferred(
        &self,
        operation: &'static str,
        place: Place<'_>,
        took: Duration,
        failed: Option<&'static str>,
    ) {
        let attributes = place.attributes(operation).failed(failed);
        self.metrics.record(&names::OPERATION_DURATION, took.as_secs_f64(), &attributes);
    }

    /// The broker has accepted events.
    pub(crate) fn accepted(&self, place: Place<'_>, lane: &str, events: &[Envelope]) {
        let attributes = place.attributes(names::SEND);
        self.metrics.count(&names::SENT, events.len() as u64, &attributes);
        let attributes = Attributes::new(&[(names::LANE, lane), (names::DESTINATION, place.topic)]);
        let now = SystemTime::now();
        // How long a delayed event has waited says nothing about the relay.
        for event in events.iter().filter(|event| event.deliver_at.is_none()) {
            self.metrics.record(&names::PUBLISH_LAG, since(event.created_at, now), &attributes);
        }
    }

    /// Messages have come from the broker, so many of them for another time.
    pub(crate) fn received(&self, place: Place<'_>, count: u64, duplicates: u64) {
        self.counters.received(count, duplicates);
        self.metrics.count(&names::CONSUMED, count, &place.attributes(names::RECEIVE));
        if duplicates > 0 {
            let subscription = [(names::SUBSCRIPTION, place.subscription.unwrap_or_default())];
            self.metrics.count(&names::DUPLICATES, duplicates, &Attributes::new(&subscription));
        }
    }

    /// Events have ended dead in the outbox of a lane.
    pub(crate) fn dead_in_outbox(&self, lane: &str, count: u64) {
        self.counters.dead(count);
        let attributes = Attributes::new(&[(names::TABLE, "outbox"), (names::LANE, lane)]);
        self.metrics.count(&names::DEAD, count, &attributes);
    }

    /// Events have ended dead in the inbox of a subscription.
    pub(crate) fn dead_in_inbox(&self, subscription: &str, count: u64) {
        self.counters.dead(count);
        let attributes = Attributes::new(&[(names::TABLE, "inbox"), (names::SUBSCRIPTION, subscription)]);
        self.metrics.count(&names::DEAD, count, &attributes);
    }

    /// Leases went to other instances.
    pub(crate) fn leases_lost(&self, table: &'static str, count: u64) {
        self.counters.leases_lost(count);
        self.metrics.count(&names::LEASES_LOST, count, &Attributes::new(&[(names::TABLE, table)]));
    }
}

/// Seconds from a time to another; clocks that are apart make nothing negative of it.
pub(crate) fn since(earlier: SystemTime, now: SystemTime) -> f64 {
    now.duration_since(earlier).unwrap_or_default().as_secs_f64()
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
