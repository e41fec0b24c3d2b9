//! The emulator's model of Service Bus as a broker, in simulated time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crash::chance::Chance;
use distributed_events::Envelope;
use distributed_events::broker::{
    Batch, BatchLimits, Broker, ReceiveError, Receiver, SendError, Service, Source,
};
use futures_core::future::BoxFuture;
use servicebus_emulator::model::api::{Input, Output};
use servicebus_emulator::model::{
    CorrelationFilter, EntityInfo, EntityPath, Fault, Filter, Message, Model, RuleSettings, Span, SubQueue,
    SubscriptionSettings, Time, TopicSettings, Value,
};
use tokio::time::Instant;

use crate::link::Link;
use crate::process::Process;
use crate::trace::Trace;

/// How long messages and sessions are locked.
pub const LOCK: Duration = Duration::from_secs(10);

/// A namespace that all processes reach.
#[derive(Debug)]
pub struct Namespace {
    model: Mutex<Model>,
    started: Instant,
    away_until: Mutex<Option<Instant>>,
    /// Counts the times that all links were cut.
    pub(crate) cuts: AtomicU64,
    receivers: AtomicU64,
    trace: Trace,
}

impl Namespace {
    /// One without entities.
    pub fn new(seed: u64, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            model: Mutex::new(Model::new(seed)),
            started: Instant::now(),
            away_until: Mutex::new(None),
            cuts: AtomicU64::new(0),
            receivers: AtomicU64::new(0),
            trace,
        })
    }

    /// Adds a topic with one subscription to one event.
    pub fn add(&self, topic: &str, subscription: &str, event: &str, knows_duplicates: bool) {
        let settings =
            TopicSettings { requires_duplicate_detection: knows_duplicates, ..TopicSettings::default() };
        let path = EntityPath::parse(topic).unwrap();
        self.apply(Input::CreateTopic { path, settings }).unwrap();
        let settings = SubscriptionSettings {
            requires_session: true,
            lock_duration: Span(u64::try_from(LOCK.as_millis()).unwrap()),
            // Faults are more frequent here than anywhere, and none is to make a message a dead letter.
            max_delivery_count: 2000,
            ..SubscriptionSettings::default()
        };
        let filter = CorrelationFilter { label: Some(event.to_owned()), ..CorrelationFilter::default() };
        let rule = RuleSettings { filter: Filter::Correlation(filter), action: None };
        let path = EntityPath::subscription(topic, subscription).unwrap();
        self.apply(Input::CreateSubscription { path, settings, rule: Some(("event".to_owned(), rule)) })
            .unwrap();
    }

    /// Lets something happen to the model now.
    pub(crate) fn apply(&self, input: Input) -> Result<Output, Fault> {
        self.model.lock().unwrap().apply(self.now(), input).output
    }

    pub(crate) fn now(&self) -> Time {
        Time(1_700_000_000_000 + u64::try_from(self.started.elapsed().as_millis()).unwrap_or_default())
    }

    /// A number for a receiver that nobody else has.
    pub(crate) fn next_receiver(&self) -> u64 {
        self.receivers.fetch_add(1, Relaxed) + 1
    }

    /// Nobody reaches it for a while; links are lost.
    pub fn go_away(&self, time: Duration) {
        self.trace.say("namespace", || format!("is away for {time:?}"));
        *self.away_until.lock().unwrap() = Some(Instant::now() + time);
        self.cut();
    }

    /// It is too busy for a while.
    pub fn get_busy(&self, time: Duration) {
        self.trace.say("namespace", || format!("is busy for {time:?}"));
        let until = self.now() + Span(u64::try_from(time.as_millis()).unwrap_or_default());
        let _done = self.apply(Input::InjectServerBusy { entity: None, until });
    }

    /// All links are lost, with their locks.
    pub fn cut(&self) {
        self.trace.say("namespace", || "all links are cut".to_owned());
        self.cuts.fetch_add(1, Relaxed);
        let _done = self.apply(Input::Restart);
    }

    /// Whether nobody reaches it.
    pub(crate) fn is_away(&self) -> bool {
        self.away_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    /// How many messages wait in all subscriptions, and how many are dead-lettered there.
    pub fn waiting(&self) -> (u64, u64) {
        let _ticked = self.apply(Input::Tick);
        let model = self.model.lock().unwrap();
        let topics = model.entities().into_iter().filter_map(|entity| match entity {
            EntityInfo::Topic(topic) => model.subscriptions(&topic.path),
            _ => None,
        });
        let counts = topics.flatten().filter_map(|entity| match entity {
            EntityInfo::Subscription(subscription) => Some(subscription.counts),
            _ => None,
        });
        counts.fold((0, 0), |(active, dead), counts| (active + counts.active, dead + counts.dead_letter))
    }
}

/// A process's way to the namespace.
#[derive(Clone, Debug)]
pub struct NamespaceBroker {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The process.
    pub process: Arc<Process>,
}

impl NamespaceBroker {
    async fn send_batch(&self, topic: &str, events: &[Envelope]) -> Result<(), SendError> {
        let mut chance = self.process.chance("send");
        self.arrive(&mut chance).await?;
        let entity = EntityPath::parse(topic).unwrap();
        // Sent again by something on the way, and taken again where nobody looks for duplicates.
        let times = if chance.happens(4) { 2 } else { 1 };
        for _ in 0..times {
            let messages = events.iter().map(message).collect();
            self.namespace.apply(Input::Send { entity: entity.clone(), messages }).map_err(|fault| {
                let retry_after = Some(Duration::from_secs(2));
                SendError::Unavailable { reason: fault.text.to_string(), retry_after }
            })?;
        }
        let named = || events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>().join(" ");
        self.process.say(|| format!("sends {} to {topic}, {times} times: {}", events.len(), named()));
        if chance.happens(3) {
            self.process.say(|| "the answer is lost".to_owned());
            return Err(unavailable("the answer is lost"));
        }
        self.arrive(&mut chance).await
    }

    async fn arrive(&self, chance: &mut Chance) -> Result<(), SendError> {
        self.process.travel(chance).await;
        if self.namespace.is_away() { Err(unavailable("the namespace can't be reached")) } else { Ok(()) }
    }
}

fn unavailable(reason: &str) -> SendError {
    SendError::Unavailable { reason: reason.to_owned(), retry_after: None }
}

/// What the model needs to know of an event; the body stands for the encoded message.
fn message(event: &Envelope) -> Message {
    let mut message = Message { raw: Bytes::from(event.data.clone()), ..Message::default() };
    message.properties.message_id = Some(event.id.to_string());
    message.properties.subject = Some(event.name.clone());
    let pseudo = || format!("~{:02}", event.id.as_uuid().as_u128() % 32);
    message.properties.session_id = Some(event.session_id.clone().unwrap_or_else(pseudo));
    message.properties.correlation_id = event.correlation_id.clone();
    let text = |(name, value): (&String, &String)| (name.clone(), Value::String(value.clone()));
    message.application = event.headers.iter().map(text).collect::<BTreeMap<_, _>>();
    message
}

impl Broker for NamespaceBroker {
    fn identity(&self) -> String {
        "namespace".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(256 * 1024, 100)
    }

    fn attach(&self, _service: Service) {}

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(self.send_batch(batch.topic, batch.events))
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            let mut chance = self.process.chance(&format!("open {}", source.entity()));
            self.process.travel(&mut chance).await;
            if self.namespace.is_away() {
                return Err(ReceiveError::Unavailable("the namespace can't be reached".to_owned()));
            }
            let path = EntityPath::subscription(&source.topic, &source.subscription).unwrap();
            let path = if source.dead_letter_queue { path.with(SubQueue::DeadLetter) } else { path };
            let link = Link::open(self.clone(), path, !source.dead_letter_queue)?;
            Ok(Some(Box::new(link) as Box<dyn Receiver>))
        })
    }
}
