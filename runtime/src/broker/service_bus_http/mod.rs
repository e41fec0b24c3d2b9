//! Azure Service Bus over HTTPS, by the published crate `azure_messaging_servicebus` 0.21 (its REST client).

mod door;
mod message;
mod receiver;
mod refusal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use azure_messaging_servicebus::prelude::TopicClient;
use azure_messaging_servicebus::service_bus::SendMessageOptions;
use futures_util::future::{BoxFuture, join_all};

use door::Door;
use receiver::HttpReceiver;
use refusal::{Refusal, SESSIONS};

use super::namespace::{
    Attached, ConnectionString, Credential, Endpoint, KeySource, Keys, Met, Mode, ServiceBusConfigError,
    SharedKey, TopologyError, base_of, certificates, look, shown, wire,
};
use super::{Batch, BatchLimits, Broker, BrokerStats, ReceiveError, Receiver, SendError, Service, Source};
use crate::telemetry::names::SERVICE_BUS;
use crate::topology::{Topology, TopologyReport};

/// What a batch holds: the Standard tier's 256 KiB, less room for what Service Bus makes of each event's properties.
const BATCH_BYTES: usize = 192 * 1024;
/// The same by number.
const BATCH_EVENTS: usize = 200;
/// How long a start waits whether subscriptions turn out to have sessions.
const LOOK: Duration = Duration::from_millis(500);

/// A namespace of Azure Service Bus as a broker, over HTTPS: for networks that neither AMQP nor WebSockets can leave.
/// Everywhere else [`ServiceBus`](crate::ServiceBus) is faster and does more.
///
/// What REST has no request for is refused when the bus starts, with the way out: subscriptions with sessions, and so the
/// order of events; handlers of events that have a session must be declared `unordered`. Each message is received and
/// settled by a request of its own, and one that has to be given back counts as a failed delivery.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use distributed_events::ServiceBusHttp;
///
/// let broker = ServiceBusHttp::from_connection_string(&std::env::var("SERVICE_BUS")?)?;
/// # Ok(()) }
/// ```
///
/// Only a connection string with `UseDevelopmentEmulator=true` (exactly so) is spoken to without encryption, and it is
/// refused for a namespace of Azure; no setting turns encryption, or the check of certificates, off for another. Clones
/// share their connections.
#[derive(Clone, Debug)]
pub struct ServiceBusHttp {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    credential: Credential,
    attached: Attached,
    met: Arc<Met>,
    door: OnceLock<Result<Arc<Door>, String>>,
    /// Opened by the start's look at the subscriptions, and to be taken over by their relays.
    opened: Mutex<HashMap<Source, HttpReceiver>>,
}

impl ServiceBusHttp {
    /// The namespace of a connection string, as the Azure portal or the emulator shows it. A port in it is that of
    /// HTTPS, and of the emulator's HTTP door, 5300 if not said.
    ///
    /// # Errors
    /// When it isn't one. No error repeats the key.
    pub fn from_connection_string(text: &str) -> Result<Self, ServiceBusConfigError> {
        let parsed = ConnectionString::parse(text)?;
        let mut endpoint = Endpoint::of(&parsed);
        let scheme = if endpoint.encrypted { "https" } else { "http" };
        endpoint.http = endpoint.port.map(|port| format!("{scheme}://{}:{port}", endpoint.host));
        let keys = Keys::new(SharedKey::from_parts(parsed.key_name, parsed.key));
        Ok(Self::new(endpoint, Credential::Keys(Arc::new(keys))))
    }

    fn new(endpoint: Endpoint, credential: Credential) -> Self {
        let (attached, door, opened) = (Attached::default(), OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { endpoint, credential, attached, met: Arc::default(), door, opened }) }
    }

    fn changed(&self, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mut endpoint = self.inner.endpoint.clone();
        change(&mut endpoint);
        let changed = Self::new(endpoint, self.inner.credential.clone());
        changed.inner.attached.ensure(self.inner.attached.ensures());
        changed
    }

    /// Where the namespace's HTTP API is, where it is not at its own name: behind a gateway, for example. To be said
    /// before the bus is built.
    ///
    /// # Errors
    /// When it is no `https://HOST[:PORT]`; the emulator's may begin with `http`.
    pub fn endpoint(&self, url: &str) -> Result<Self, ServiceBusConfigError> {
        let base = base_of(url, self.inner.endpoint.encrypted)
            .ok_or_else(|| ServiceBusConfigError::ManagementEndpoint(shown(url)))?;
        Ok(self.changed(|endpoint| endpoint.http = Some(base)))
    }

    /// Gives up a request that has not been answered for so long (a minute, if not said), beyond the time for which it
    /// asked Service Bus to wait. To be said before the bus is built.
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
    /// the service runs.
    #[must_use]
    pub fn second_key(self, key: SharedKey) -> Self {
        if let Some(keys) = self.inner.credential.keys() {
            keys.add(key);
        }
        self
    }

    /// Asks this for a key when the keys at hand are refused: for keys that are kept in a vault.
    #[must_use]
    pub fn on_unauthorized(self, source: KeySource) -> Self {
        if let Some(keys) = self.inner.credential.keys() {
            keys.refresh_from(source);
        }
        self
    }

    /// Creates the topics, subscriptions and rules of a topology that are missing, and tells what is otherwise than it
    /// should be. What is there is never changed or removed.
    ///
    /// # Errors
    /// When the namespace can't be managed; what was created before stays.
    pub async fn ensure_topology(&self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        look(&self.inner.endpoint, self.inner.credential.clone(), topology, Mode::Create).await
    }

    /// Tells what is missing and what is otherwise than it should be, and creates nothing.
    ///
    /// # Errors
    /// When the namespace can't be asked.
    pub async fn check_topology(&self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        look(&self.inner.endpoint, self.inner.credential.clone(), topology, Mode::Check).await
    }

    /// Does [`ensure_topology`](Self::ensure_topology) before the bus starts, for all services of the process that use
    /// this broker. The bus does not start if that fails, or if events would be lost with what is there; other drift is
    /// logged.
    #[must_use]
    pub fn ensures_topology_at_start(self) -> Self {
        self.inner.attached.ensure(true);
        self
    }

    fn advice(&self) -> String {
        format!(
            "; look whether it exists in {} (`ensure_topology` creates what is missing) and whether this identity may use it",
            self.inner.endpoint.host
        )
    }

    /// A client of the crate's for a topic. Its host and key are of no importance: the door has its own.
    fn client(&self, topic: &str) -> Result<TopicClient, Refusal> {
        let Inner { endpoint, credential, door, .. } = &*self.inner;
        let door = door.get_or_init(|| Door::new(endpoint, credential.clone()).map(Arc::new));
        let door = door.clone().map_err(Refusal::NoAnswer)?;
        TopicClient::new(door, "namespace", topic, "policy", "key".to_owned()).map_err(Refusal::of)
    }

    fn open_receiver(&self, source: &Source) -> Result<HttpReceiver, Refusal> {
        let queue = if source.dead_letter_queue { "/$DeadLetterQueue" } else { "" };
        let entity = format!("{}{queue}", source.subscription);
        let client = self.client(&source.topic)?.subscription_receiver(&entity);
        Ok(HttpReceiver::new(client, source.clone(), self.advice(), Arc::clone(&self.inner.met)))
    }

    /// Finds out which subscriptions have sessions, by asking each for its first message.
    async fn refuse_sessions(&self) -> Result<(), SendError> {
        let mut sources = Vec::new();
        for subscription in self.inner.attached.subscriptions() {
            let source = Source::new(subscription.topic, subscription.name);
            if subscription.ordered {
                return Err(refuse(&source, &"events are handled that have a session, in order"));
            }
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        let looked = join_all(sources.into_iter().map(async |source| {
            let mut receiver = self.open_receiver(&source).ok()?;
            match receiver.is_refused_within(LOOK).await {
                Some(refusal) if refusal.wants_sessions() => return Some(refuse(&source, &refusal)),
                // Whatever else is the matter may pass; its relay will tell.
                Some(_) => {}
                None => {
                    let mut opened = self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner);
                    opened.insert(source, receiver);
                }
            }
            None
        }));
        looked.await.into_iter().flatten().next().map_or(Ok(()), Err)
    }
}

fn refuse(source: &Source, reason: &dyn std::fmt::Display) -> SendError {
    let Source { topic, subscription, .. } = source;
    let reason = format!("subscription {subscription} on topic {topic}: {reason}; {SESSIONS}");
    SendError::Unavailable { reason, retry_after: None }
}

impl Broker for ServiceBusHttp {
    /// The same as over AMQP: it is the same broker.
    fn identity(&self) -> String {
        format!("service-bus:{}", self.inner.endpoint.host)
    }

    fn system(&self) -> &'static str {
        SERVICE_BUS
    }

    fn server(&self) -> Option<&str> {
        Some(&self.inner.endpoint.host)
    }

    fn stats(&self) -> BrokerStats {
        self.inner.met.stats()
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
        Box::pin(async move {
            let Inner { endpoint, credential, attached, .. } = &*self.inner;
            attached.ensure_at_start(self.identity(), endpoint, credential.clone()).await?;
            self.refuse_sessions().await
        })
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let source = format!("sb://{}", self.inner.endpoint.host);
            let encoded = message::encode(batch.events, &source).map_err(SendError::BatchTooBig)?;
            let options = SendMessageOptions {
                content_type: Some(message::BATCH.to_owned()),
                ..SendMessageOptions::default()
            };
            let sent = match self.client(batch.topic) {
                Ok(client) => {
                    client.topic_sender().send_message(&encoded, Some(options)).await.map_err(Refusal::of)
                }
                Err(refusal) => Err(refusal),
            };
            sent.map_err(|refusal| {
                if refusal.is_busy() {
                    self.inner.met.throttled();
                }
                refusal.sending(batch.topic, &self.advice())
            })
        })
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            let opened = self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
            let receiver = match opened {
                Some(receiver) => Ok(receiver),
                None => self.open_receiver(source),
            };
            let receiver = receiver.map_err(|refusal| refusal.receiving(source, &self.advice()))?;
            let receiver: Box<dyn Receiver> = Box::new(receiver);
            Ok(Some(receiver))
        })
    }
}
