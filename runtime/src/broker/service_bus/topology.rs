//! A namespace's topology: looked at, created where it is missing, and never changed otherwise.

mod look;

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use hyper::Uri;

use self::look::Look;
use super::connection_string::ServiceBusConfigError;
use super::{SendError, ServiceBus};
use crate::broker::Broker;
use crate::topology::{Topology, TopologyReport};

/// Why a topology could not be looked at or created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Names that Service Bus doesn't take, all of them: rename what each sentence says.
    #[error("Service Bus can't have this topology:{}", problems.iter().map(|problem| format!("\n  - {problem}")).collect::<String>())]
    Names {
        /// The problems, a sentence each.
        problems: Vec<String>,
    },
    /// This identity may not manage the namespace: give it the role *Azure Service Bus Data Owner*, or a key with the
    /// claim *Manage*; or deploy the topology by other means, such as
    /// [`to_bicep`](crate::topology::Topology::to_bicep).
    #[error(
        "{endpoint} lets this identity manage nothing: {reason}; it needs the role Azure Service Bus Data Owner, or a \
         key with the claim Manage"
    )]
    Unauthorized {
        /// The management API's address.
        endpoint: String,
        /// What was said.
        reason: String,
    },
    /// The management API can't be reached, or is too busy: try again later; or name it with
    /// [`management_endpoint`](super::ServiceBus::management_endpoint) if it is elsewhere.
    #[error("{endpoint} is not available: {reason}")]
    Unavailable {
        /// The management API's address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Service Bus refuses: do what it says, for example about the limits of its tier.
    #[error("{asked} was refused with status {status}: {reason}")]
    Refused {
        /// What was asked.
        asked: String,
        /// The HTTP status.
        status: u16,
        /// What the service says.
        reason: String,
    },
    /// What answers is not Service Bus's management API: look whether the address is right, and what stands between.
    #[error("the answer to {asked} can't be read: {reason}")]
    Answer {
        /// What was asked.
        asked: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// What may be done about what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Check,
    Create,
    RemoveSurplus,
}

impl ServiceBus {
    /// Creates the topics, subscriptions and rules of a topology that are missing, and tells what is otherwise than it
    /// should be. What is there is never changed or removed, whoever made it, and any number of instances may do this at
    /// once.
    ///
    /// A new subscription gets its first rule as it is created, so that nothing unfiltered slips in.
    ///
    /// ```no_run
    /// # async fn example(bus: distributed_events::EventBus<sqlx::Sqlite>) -> Result<(), Box<dyn std::error::Error>> {
    /// use distributed_events::ServiceBus;
    ///
    /// // A key with the claim Manage, which the service itself needn't have.
    /// let admin = ServiceBus::from_connection_string(&std::env::var("SERVICE_BUS_ADMIN")?)?;
    /// for topology in bus.topology() {
    ///     println!("{}", admin.ensure_topology(&topology).await?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the namespace can't be managed; what was created before stays.
    pub async fn ensure_topology(&self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        self.look(topology, Mode::Create).await
    }

    /// Tells what is missing and what is otherwise than it should be, and creates nothing.
    ///
    /// # Errors
    /// When the namespace can't be asked.
    pub async fn check_topology(&self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        self.look(topology, Mode::Check).await
    }

    /// Removes rules that let through what nobody here handles: Service Bus's own `$Default`, and those that an earlier
    /// version of the service has made. What is missing is created first, and the rules of others are left alone.
    ///
    /// It is never done by itself, because it can't be known from here whether another version of the service, deployed
    /// at the same time or again tomorrow, needs them: what they let through would be lost to it.
    ///
    /// # Errors
    /// When the namespace can't be managed; what was done before stays done.
    pub async fn remove_surplus_rules(&self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        self.look(topology, Mode::RemoveSurplus).await
    }

    /// Does [`ensure_topology`](Self::ensure_topology) before the bus starts, for all services of the process that use
    /// this broker. The bus does not start if that fails, or if events would be lost or lose their order with what is
    /// there; other drift is logged.
    ///
    /// ```no_run
    /// # fn example(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
    /// use distributed_events::{EventBus, ServiceBus};
    ///
    /// let broker = ServiceBus::from_connection_string(&std::env::var("SERVICE_BUS")?)?;
    /// let bus = EventBus::builder(pool).broker(broker.ensures_topology_at_start()).build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn ensures_topology_at_start(self) -> Self {
        self.inner.ensures_topology.store(true, Ordering::Relaxed);
        self
    }

    /// Where the management API is: `https://NAMESPACE`, if not said, and the emulator's `http://HOST:5300` for a
    /// connection string with `UseDevelopmentEmulator=true`. To be said before the bus is built.
    ///
    /// # Errors
    /// When it is no `https://HOST[:PORT]`; the emulator's may begin with `http`.
    pub fn management_endpoint(&self, url: &str) -> Result<Self, ServiceBusConfigError> {
        let encrypted = self.inner.namespace.endpoint.encrypted;
        let base = endpoint_of(url, encrypted)
            .ok_or_else(|| ServiceBusConfigError::ManagementEndpoint(url.to_owned()))?;
        Ok(self.changed(|endpoint| endpoint.management = Some(base)))
    }

    async fn look(&self, topology: &Topology, mode: Mode) -> Result<TopologyReport, TopologyError> {
        let problems = topology.problems();
        if !problems.is_empty() {
            return Err(TopologyError::Names { problems });
        }
        let namespace = &self.inner.namespace;
        Look::new(&namespace.endpoint, namespace.credential.clone(), mode)?.at(topology).await
    }

    /// What the attached services have told.
    fn told_topology(&self) -> Topology {
        let mut topology = Topology::new(self.identity(), Vec::<String>::new());
        for topic in self.inner.published.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            topology.topic(topic);
        }
        for subscription in self.inner.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            subscription.describe(&mut topology);
        }
        topology
    }

    pub(super) async fn ensure_at_start(&self) -> Result<(), SendError> {
        if !self.inner.ensures_topology.load(Ordering::Relaxed) {
            return Ok(());
        }
        let refused = |reason: String| SendError::Unavailable { reason, retry_after: None };
        let report = self.ensure_topology(&self.told_topology()).await;
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

/// A URL's scheme, host and port, if it has nothing else.
fn endpoint_of(url: &str, encrypted: bool) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let secure = scheme == "https" || scheme == "http" && !encrypted;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    (secure && bare).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, Subscription};

    const EMULATOR: &str =
        "Endpoint=sb://localhost;SharedAccessKeyName=k;SharedAccessKey=canary;UseDevelopmentEmulator=true;";
    const AZURE: &str =
        "Endpoint=sb://shop.servicebus.windows.net;SharedAccessKeyName=k;SharedAccessKey=canary";

    #[test]
    fn only_the_emulator_is_managed_without_encryption() {
        let azure = ServiceBus::from_connection_string(AZURE).unwrap();
        let emulator = ServiceBus::from_connection_string(EMULATOR).unwrap();
        for (url, at_azure, at_emulator) in [
            ("https://other:444/", true, true),
            ("http://localhost:5301", false, true),
            ("sb://localhost", false, false),
            ("localhost:5300", false, false),
            ("https://user:canary@other", false, false),
            ("https://other/path", false, false),
        ] {
            assert_eq!(azure.management_endpoint(url).is_ok(), at_azure, "{url}");
            assert_eq!(emulator.management_endpoint(url).is_ok(), at_emulator, "{url}");
        }
        let named = azure.management_endpoint("https://other:444/").unwrap();
        assert_eq!(named.inner.namespace.endpoint.management.as_deref(), Some("https://other:444"));
    }

    #[test]
    fn what_is_said_first_is_kept() {
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap().ensures_topology_at_start();
        let broker = broker.timeout(std::time::Duration::from_secs(1));
        assert!(broker.inner.ensures_topology.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn without_being_told_to_it_does_nothing_at_start() {
        // Nobody listens there, so an attempt would fail.
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap();
        let broker = broker.management_endpoint("http://127.0.0.1:1").unwrap();
        broker.open().await.unwrap();
    }

    #[test]
    fn the_services_of_a_process_are_taken_together() {
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap();
        let told = |event: &str, ordered| {
            Subscription::new("orders".to_owned(), "billing".to_owned(), vec![event.to_owned()])
                .ordered(ordered)
        };
        broker.inner.subscriptions.lock().unwrap().extend([told("a", false), told("b", true)]);
        broker.inner.published.lock().unwrap().insert("events".to_owned());
        let topology = broker.told_topology();
        assert_eq!(topology.topics.len(), 2);
        let billing = &topology.topics[1].subscriptions[0];
        assert_eq!((billing.rules.len(), billing.settings.sessions), (2, true));
    }
}
