//! A broker in memory with the manners of a real one, and with every trouble that a test asks for.
//!
//! Subscriptions take events by name, messages are locked while a receiver has them, locks end when a test says so or
//! with their link, and what is refused too often goes into a dead-letter queue. [`script`] holds the troubles.

mod queue;
mod receiver;
pub mod script;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use distributed_events::broker::{
    Batch, BatchLimits, Message, ReceiveError, Receiver, SendError, Service, Source,
};
use distributed_events::{Broker, Envelope, EventId};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use queue::Queue;
use receiver::Link;
use script::Script;

/// A broker in memory. Clones are one broker.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts the changes that someone may wait for.
    changes: watch::Sender<u64>,
}

pub(crate) struct State {
    identity: String,
    limits: BatchLimits,
    subscriptions: BTreeMap<(String, String), Queue>,
    sequence: i64,
    links: u64,
    script: Script,
    batches: Vec<SentBatch>,
    /// The batches under way, by their place in `batches`.
    under_way: Vec<usize>,
}

/// A batch as the broker has seen it, in the order of arrival.
#[derive(Clone, Debug)]
pub struct SentBatch {
    /// When it arrived.
    pub at: Instant,
    /// The topic.
    pub topic: String,
    /// The events.
    pub ids: Vec<EventId>,
    /// Their bodies.
    pub bodies: Vec<String>,
    /// The sessions of those that have one.
    pub sessions: Vec<String>,
    /// Sessions that were in another batch under way when this one arrived (rule 6: none).
    pub overlap: Vec<String>,
    /// How many batches were under way with it, itself included.
    pub depth: usize,
    /// Whether the broker has taken it, whatever it answered.
    pub accepted: bool,
    /// What it answered, once it has.
    pub answer: Option<Result<(), SendError>>,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// A broker without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::named("memory")
    }

    /// A broker with an identity of its own.
    #[must_use]
    pub fn named(identity: &str) -> Self {
        let state = State {
            identity: identity.to_owned(),
            limits: BatchLimits::new(2 * 1024 * 1024, 1000),
            subscriptions: BTreeMap::new(),
            sequence: 0,
            links: 0,
            script: Script::default(),
            batches: Vec::new(),
            under_way: Vec::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changes: watch::Sender::new(0) }) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Tells those who wait that something is different now.
    pub(crate) fn changed(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// What one batch may hold, as the relay is told.
    pub fn set_limits(&self, limits: BatchLimits) {
        self.state().limits = limits;
    }

    /// All batches so far.
    #[must_use]
    pub fn batches(&self) -> Vec<SentBatch> {
        self.state().batches.clone()
    }

    /// The bodies of the events taken so far, in order, those taken twice twice.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        let batches = self.batches();
        batches.into_iter().filter(|batch| batch.accepted).flat_map(|batch| batch.bodies).collect()
    }

    /// How many batches are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.state().under_way.len()
    }

    /// Waits for an arrival's turn, then answers as scripted.
    async fn answer(&self, place: usize, topic: &str, events: &[Envelope]) -> Result<(), SendError> {
        let mut changes = self.changes();
        while !self.state().script.sends.pass() {
            changes.changed().await.unwrap();
        }
        let mut state = self.state();
        let (taken, answer) = state.script.answer(topic, events);
        if taken {
            state.enqueue(topic, events);
            state.batches[place].accepted = true;
        }
        answer
    }
}

impl State {
    fn begin(&mut self, batch: &Batch<'_>) -> usize {
        let events = batch.events;
        let sessions: Vec<_> = events.iter().filter_map(|event| event.session_id.clone()).collect();
        let under_way = || self.under_way.iter().map(|place| &self.batches[*place]);
        let overlap = under_way()
            .flat_map(|other| &other.sessions)
            .filter(|session| sessions.contains(session))
            .cloned()
            .collect();
        self.under_way.push(self.batches.len());
        self.batches.push(SentBatch {
            at: Instant::now(),
            topic: batch.topic.to_owned(),
            ids: events.iter().map(|event| event.id).collect(),
            bodies: events.iter().map(|event| event.data.clone()).collect(),
            sessions,
            overlap,
            depth: self.under_way.len(),
            accepted: false,
            answer: None,
        });
        self.batches.len() - 1
    }

    fn enqueue(&mut self, topic: &str, events: &[Envelope]) {
        for event in events {
            self.sequence += 1;
            let message = message(event, self.sequence);
            for ((on, _), queue) in &mut self.subscriptions {
                if on == topic && queue.takes(&event.name) {
                    queue.push(message.clone());
                }
            }
        }
    }

    pub(crate) fn queue(&mut self, source: &Source) -> Option<&mut Queue> {
        let key = (source.topic.clone(), source.subscription.clone());
        let queue = self.subscriptions.get_mut(&key)?;
        Some(if source.dead_letter_queue { queue.dead_letters() } else { queue })
    }
}

/// The message that a sender of Service Bus makes of an event (DESIGN.md, section 7).
fn message(event: &Envelope, sequence: i64) -> Message {
    let mut message = Message::default();
    message.message_id = Some(event.id.to_string());
    message.subject = Some(event.name.clone());
    message.body = event.data.clone().into_bytes();
    let pseudo = || format!("~{:02}", event.id.as_uuid().as_u128() % 32);
    message.session_id = Some(event.session_id.clone().unwrap_or_else(pseudo));
    message.correlation_id = event.correlation_id.clone();
    message.properties = event.headers.clone();
    message.properties.insert("eventversion".to_owned(), event.version.to_string());
    if let Some(cause) = &event.causation_id {
        message.properties.insert("causationid".to_owned(), cause.clone());
    }
    message.sequence_number = sequence;
    message.enqueued_at = Some(SystemTime::now());
    message.expires_at = event.expires_at;
    message
}

impl Broker for MemoryBroker {
    fn identity(&self) -> String {
        self.state().identity.clone()
    }

    fn limits(&self) -> BatchLimits {
        self.state().limits
    }

    fn attach(&self, service: Service) {
        let mut state = self.state();
        for subscription in service.subscriptions {
            let key = (subscription.topic, subscription.name);
            state.subscriptions.entry(key).or_default().subscribe(subscription.events);
        }
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let place = self.state().begin(&batch);
            self.changed();
            // Also when the sender is dropped at an await, as when its process dies.
            let _ended = Ended { broker: self, place };
            let answer = self.answer(place, batch.topic, batch.events).await;
            self.state().batches[place].answer = Some(answer.clone());
            answer
        })
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            let mut state = self.state();
            if let Some(error) = state.script.receiver_error() {
                return Err(error);
            }
            state.links += 1;
            let link = Link::new(self.clone(), source.clone(), state.links);
            Ok(Some(Box::new(link) as Box<dyn Receiver>))
        })
    }
}

struct Ended<'a> {
    broker: &'a MemoryBroker,
    place: usize,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.broker.state().under_way.retain(|place| *place != self.place);
        self.broker.changed();
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
