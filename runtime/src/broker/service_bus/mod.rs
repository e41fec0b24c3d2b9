//! Azure Service Bus over AMQP 1.0.

mod body;
mod cbs;
mod condition;
mod connection;
#[cfg(feature = "__fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod link;
mod message;
mod receiver;
mod sender;
mod stream;
mod topology;
mod web_socket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use connection::Namespace;
use receiver::SubscriptionReceiver;
use sender::TopicSender;

use super::namespace::{
    Attached, ConnectionString, Credential, Endpoint, KeySource, Keys, ServiceBusConfigError, SharedKey,
    certificates, wire,
};
#[cfg(feature = "entra")]
use super::namespace::{host_and_port, shown};
use super::{Batch, BatchLimits, Broker, BrokerStats, ReceiveError, Receiver, SendError, Service, Source};
use crate::telemetry::names::SERVICE_BUS;

/// What a batch holds before a topic has told: the Standard tier's 256 KiB, less room for what AMQP adds.
const BATCH_BYTES: usize = 240 * 1024;
/// More events in one batch gain nothing.
const BATCH_EVENTS: usize = 1_000;

/// A namespace of Azure Service Bus as a broker. Clones share its one connection.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use distributed_events::ServiceBus;
///
/// let bus = ServiceBus::from_connection_string(&std::env::var("SERVICE_BUS")?)?;
/// # Ok(())
/// # }
/// ```
///
/// A connection string with `UseDevelopmentEmulator=true` (exactly so) is spoken to without encryption, and refused for a
/// namespace of Azure; every other one over TLS, and no setting turns that off, or the check of certificates.
#[derive(Clone, Debug)]
pub struct ServiceBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    namespace: Arc<Namespace>,
    topics: Mutex<HashMap<String, Arc<TopicSender>>>,
    attached: Attached,
}

impl ServiceBus {
    /// The namespace of a connection string, as the Azure portal or the emulator shows it.
    ///
    /// # Errors
    /// When it isn't one. No error repeats the key.
    pub fn from_connection_string(text: &str) -> Result<Self, ServiceBusConfigError> {
        let parsed = ConnectionString::parse(text)?;
        let endpoint = Endpoint::of(&parsed);
        let keys = Keys::new(SharedKey::from_parts(parsed.key_name, parsed.key));
        Ok(Self::new(endpoint, Credential::Keys(Arc::new(keys))))
    }

    /// A namespace by its host name, such as `shop.servicebus.windows.net`, with an identity of Microsoft Entra ID: any
    /// credential of the crate `azure_identity`. It needs the roles *Azure Service Bus Data Sender* and *Receiver*.
    ///
    /// # Errors
    /// When it is no host name.
    #[cfg(feature = "entra")]
    pub fn with_credential(
        namespace: &str,
        credential: Arc<dyn azure_core::credentials::TokenCredential>,
    ) -> Result<Self, ServiceBusConfigError> {
        let (host, port) =
            host_and_port(namespace).ok_or_else(|| ServiceBusConfigError::Namespace(shown(namespace)))?;
        Ok(Self::new(Endpoint::new(host, port, true), Credential::Entra(credential)))
    }

    fn new(endpoint: Endpoint, credential: Credential) -> Self {
        Self {
            inner: Arc::new(Inner {
                namespace: Arc::new(Namespace::new(endpoint, credential)),
                topics: Mutex::default(),
                attached: Attached::default(),
            }),
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mut endpoint = self.inner.namespace.endpoint.clone();
        change(&mut endpoint);
        let changed = Self::new(endpoint, self.inner.namespace.credential.clone());
        changed.inner.attached.ensure(self.inner.attached.ensures());
        changed
    }

    /// Speaks AMQP over WebSockets (port 443 where none is given), for networks that let nothing else out. To be said
    /// before the bus is built.
    #[must_use]
    pub fn over_web_sockets(&self) -> Self {
        self.changed(|endpoint| endpoint.web_socket = true)
    }

    /// Takes the connection for dead, and opens a new one, when Service Bus has been silent for so long (a minute, if not
    /// said) or takes longer for an answer. To be said before the bus is built.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.changed(|endpoint| endpoint.patience = timeout)
    }

    /// Trusts these root certificates (PEM) beside the system's, for a proxy that looks into TLS. To be said before the
    /// bus is built.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn root_certificates(&self, pem: &[u8]) -> Result<Self, ServiceBusConfigError> {
        let roots = certificates(pem)?;
        Ok(self.changed(|endpoint| endpoint.roots.extend(roots)))
    }

    /// Another key that is tried when the first is refused: give both of a rule, and either can be regenerated while
    /// the service runs. Says nothing to an identity of Entra ID.
    #[must_use]
    pub fn second_key(self, key: SharedKey) -> Self {
        if let Some(keys) = self.inner.namespace.credential.keys() {
            keys.add(key);
        }
        self
    }

    /// Asks this for a key when the keys at hand are refused: for keys that are kept in a vault.
    #[must_use]
    pub fn on_unauthorized(self, source: KeySource) -> Self {
        if let Some(keys) = self.inner.namespace.credential.keys() {
            keys.refresh_from(source);
        }
        self
    }

    /// Signs tokens for so long (an hour, if not said). They are renewed before they expire.
    #[must_use]
    pub fn token_lifetime(self, lifetime: Duration) -> Self {
        if let Some(keys) = self.inner.namespace.credential.keys() {
            keys.sign_for(lifetime);
        }
        self
    }

    fn topic(&self, topic: &str) -> Arc<TopicSender> {
        let mut topics = self.inner.topics.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(topics.entry(topic.to_owned()).or_default())
    }

    /// What an unknown entity's name is followed by in an error.
    fn advice(&self) -> String {
        format!(
            "; look whether it exists in {} (`ensure_topology` creates what is missing) and whether this identity may use it",
            self.inner.namespace.endpoint.host
        )
    }

    fn check_order(&self, source: &Source, sessions: bool) -> Result<(), ReceiveError> {
        let ordered = self.inner.attached.is_ordered(source);
        if !ordered || sessions || source.dead_letter_queue {
            return Ok(());
        }
        Err(ReceiveError::Entity {
            topic: source.topic.clone(),
            subscription: source.subscription.clone(),
            reason: "it was created without sessions, and handles events that have one: their order would be lost. \
                     Create it anew with `requiresSession`, or declare its handlers `unordered`"
                .to_owned(),
        })
    }
}

impl Broker for ServiceBus {
    fn identity(&self) -> String {
        format!("service-bus:{}", self.inner.namespace.endpoint.host)
    }

    fn system(&self) -> &'static str {
        SERVICE_BUS
    }

    fn server(&self) -> Option<&str> {
        Some(&self.inner.namespace.endpoint.host)
    }

    fn stats(&self) -> BrokerStats {
        self.inner.namespace.met.stats()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(BATCH_BYTES, BATCH_EVENTS)
    }

    fn schedules_ahead(&self) -> Duration {
        wire::SCHEDULED_AHEAD
    }

    fn attach(&self, service: Service) {
        self.inner.attached.attach(service);
    }

    fn open(&self) -> BoxFuture<'_, Result<(), SendError>> {
        let Namespace { endpoint, credential, .. } = &*self.inner.namespace;
        let credential = credential.clone();
        Box::pin(self.inner.attached.ensure_at_start(self.identity(), endpoint, credential))
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let source = format!("sb://{}", self.inner.namespace.endpoint.host);
            let encoded = message::encode(batch.events, &source).map_err(SendError::BatchTooBig)?;
            let sent = self.topic(batch.topic).send(&self.inner.namespace, batch.topic, encoded).await;
            sent.map_err(|trouble| {
                if trouble.is_busy() {
                    self.inner.namespace.met.throttled();
                }
                trouble.sending(batch.topic, &self.advice())
            })
        })
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            let queue = if source.dead_letter_queue { link::DEAD_LETTER_QUEUE } else { "" };
            let address = format!("{}/Subscriptions/{}{queue}", source.topic, source.subscription);
            let namespace = Arc::clone(&self.inner.namespace);
            let receiver =
                SubscriptionReceiver::open(namespace, source.clone(), address, self.advice()).await?;
            self.check_order(source, receiver.has_sessions())?;
            let receiver: Box<dyn Receiver> = Box::new(receiver);
            Ok(Some(receiver))
        })
    }
}
