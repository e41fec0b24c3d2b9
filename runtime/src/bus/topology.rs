//! What a bus needs at its brokers.

use std::collections::BTreeSet;

use super::{EventBus, Inner};
use crate::storage::Storage;
use crate::topology::Topology;

impl<DB: Storage> EventBus<DB> {
    /// What this bus needs at its brokers, one topology for each: the topics and subscriptions of the events that it
    /// handles, the topics of those that it [`publishes`](super::builder::BusBuilder::publishes), and the default topic.
    ///
    /// As Bicep for those who deploy it with Azure's tools:
    ///
    /// ```no_run
    /// # fn example(bus: &distributed_events::EventBus<sqlx::Sqlite>) -> std::io::Result<()> {
    /// for (number, topology) in bus.topology().iter().enumerate() {
    ///     std::fs::write(format!("topology-{number}.bicep"), topology.to_bicep())?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn topology(&self) -> Vec<Topology> {
        let bus = &self.inner;
        let mut seen = BTreeSet::new();
        let brokers = bus.lanes.iter().map(|lane| lane.broker.identity());
        brokers.filter(|broker| seen.insert(broker.clone())).map(|broker| bus.topology_of(&broker)).collect()
    }
}

impl<DB: Storage> Inner<DB> {
    /// The lanes that a broker carries, whichever of its clones each was given.
    pub(super) fn lanes_of(&self, broker: &str) -> Vec<&str> {
        let lanes = self.lanes.iter().filter(|lane| lane.broker.identity() == broker);
        lanes.map(|lane| lane.name.as_str()).collect()
    }

    /// The topics that events are published to by these lanes. The default topic is always one: an event can be published
    /// that nobody named here, and another program may use the outbox, too.
    pub(super) fn topics_on(&self, lanes: &[&str]) -> Vec<String> {
        let published = self.published.iter().filter(|event| lanes.contains(&event.lane));
        let topics = published.filter_map(|event| event.topic);
        let all: BTreeSet<_> = topics.chain([self.default_topic.as_str()]).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    fn topology_of(&self, broker: &str) -> Topology {
        let lanes = self.lanes_of(broker);
        let mut topology = Topology::new(broker, lanes.iter().copied());
        for topic in self.topics_on(&lanes) {
            topology.topic(&topic);
        }
        for subscription in self.subscriptions_on(&lanes) {
            subscription.describe(&mut topology);
        }
        topology
    }
}
