//! What `ServiceBus` does about its namespace's topology.

use super::ServiceBus;
use crate::broker::namespace::{self, Mode, ServiceBusConfigError, TopologyError};
use crate::topology::{Topology, TopologyReport};

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
        self.inner.attached.ensure(true);
        self
    }

    /// Where the management API is: `https://NAMESPACE`, if not said, and the emulator's `http://HOST:5300` for a
    /// connection string with `UseDevelopmentEmulator=true`. To be said before the bus is built.
    ///
    /// # Errors
    /// When it is no `https://HOST[:PORT]`; the emulator's may begin with `http`.
    pub fn management_endpoint(&self, url: &str) -> Result<Self, ServiceBusConfigError> {
        let encrypted = self.inner.namespace.endpoint.encrypted;
        let base = namespace::base_of(url, encrypted)
            .ok_or_else(|| ServiceBusConfigError::ManagementEndpoint(namespace::shown(url)))?;
        Ok(self.changed(|endpoint| endpoint.http = Some(base)))
    }

    async fn look(&self, topology: &Topology, mode: Mode) -> Result<TopologyReport, TopologyError> {
        let namespace = &self.inner.namespace;
        namespace::look(&namespace.endpoint, namespace.credential.clone(), topology, mode).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Broker;

    /// A connection string instead of a URL is a mistake that must not end in a log.
    #[test]
    fn what_is_no_endpoint_is_not_shown_where_it_may_be_a_secret() {
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap();
        for url in [AZURE, "https://user:canary@other", "https://other?sig=canary"] {
            let error = broker.management_endpoint(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let error = broker.management_endpoint("localhost:5300").unwrap_err();
        assert!(error.to_string().contains("`localhost:5300`"), "{error}");
    }

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
        assert_eq!(named.inner.namespace.endpoint.http.as_deref(), Some("https://other:444"));
    }

    #[test]
    fn what_is_said_first_is_kept() {
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap().ensures_topology_at_start();
        let broker = broker.timeout(std::time::Duration::from_secs(1));
        assert!(broker.inner.attached.ensures());
    }

    #[tokio::test]
    async fn without_being_told_to_it_does_nothing_at_start() {
        // Nobody listens there, so an attempt would fail.
        let broker = ServiceBus::from_connection_string(EMULATOR).unwrap();
        let broker = broker.management_endpoint("http://127.0.0.1:1").unwrap();
        broker.open().await.unwrap();
    }
}
