//! The services of a process that use a namespace, and the topology that they need.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::credential::Credential;
use super::endpoint::Endpoint;
use super::topology::{Mode, look};
#[cfg(feature = "service-bus")]
use crate::broker::Source;
use crate::broker::{SendError, Service, Subscription};
use crate::topology::Topology;

/// What they have told.
#[derive(Debug, Default)]
pub(in crate::broker) struct Attached {
    subscriptions: Mutex<Vec<Subscription>>,
    /// What they publish to.
    topics: Mutex<BTreeSet<String>>,
    /// Whether their topology is ensured before they start.
    ensures: AtomicBool,
}

impl Attached {
    pub(in crate::broker) fn attach(&self, service: Service) {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).extend(service.subscriptions);
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).extend(service.topics);
    }

    pub(in crate::broker) fn ensure(&self, ensures: bool) {
        self.ensures.store(ensures, Ordering::Relaxed);
    }

    pub(in crate::broker) fn ensures(&self) -> bool {
        self.ensures.load(Ordering::Relaxed)
    }

    /// All of their subscriptions; one that several handle stands there several times.
    pub(in crate::broker) fn subscriptions(&self) -> Vec<Subscription> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody counts on the order of its events (rule 7).
    #[cfg(feature = "service-bus")]
    pub(in crate::broker) fn is_ordered(&self, source: &Source) -> bool {
        let same = |it: &Subscription| it.topic == source.topic && it.name == source.subscription;
        self.subscriptions().iter().any(|known| same(known) && known.ordered)
    }

    /// The topology they need.
    pub(in crate::broker) fn topology(&self, namespace: String) -> Topology {
        let mut topology = Topology::new(namespace, Vec::<String>::new());
        for topic in self.topics.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            topology.topic(topic);
        }
        for subscription in self.subscriptions() {
            subscription.describe(&mut topology);
        }
        topology
    }

    /// Creates what is missing, where that was asked for.
    pub(in crate::broker) async fn ensure_at_start(
        &self,
        namespace: String,
        endpoint: &Endpoint,
        credential: Credential,
    ) -> Result<(), SendError> {
        if !self.ensures() {
            return Ok(());
        }
        let refused = |reason: String| SendError::Unavailable { reason, retry_after: None };
        let report = look(endpoint, credential, &self.topology(namespace), Mode::Create).await;
        let report = report.map_err(|error| refused(format!("its topology can't be ensured: {error}")))?;
        for entity in &report.created {
            tracing::info!(%entity, "created");
        }
        for drift in &report.drift {
            tracing::warn!("{drift}");
        }
        for foreign in &report.foreign {
            tracing::debug!(entity = %foreign.entity, "left alone: {}", foreign.meaning);
        }
        let harmful: String = report.harmful().map(|drift| format!("\n  - {drift}")).collect();
        if harmful.is_empty() {
            return Ok(());
        }
        Err(refused(format!("events would be lost, or lose their order, with what is there:{harmful}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_a_process_are_taken_together() {
        let attached = Attached::default();
        let told = |event: &str, ordered| {
            Subscription::new("orders".to_owned(), "billing".to_owned(), vec![event.to_owned()])
                .ordered(ordered)
        };
        attached.subscriptions.lock().unwrap().extend([told("a", false), told("b", true)]);
        attached.topics.lock().unwrap().insert("events".to_owned());
        let topology = attached.topology("namespace".to_owned());
        assert_eq!(topology.topics.len(), 2);
        let billing = &topology.topics[1].subscriptions[0];
        assert_eq!((billing.rules.len(), billing.settings.sessions), (2, true));
        #[cfg(feature = "service-bus")]
        for (topic, ordered) in [("orders", true), ("events", false)] {
            assert_eq!(attached.is_ordered(&Source::new(topic, "billing")), ordered);
        }
    }
}
