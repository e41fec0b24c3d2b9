//! A broker in simulated memory: topics with subscriptions, whose messages are locked while a link has them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::link::Link;
use crate::broker::Subscription;
use crate::broker::{
    Batch, BatchLimits, Broker, Message, ReceiveError, Receiver, SendError, Service, Source,
};
use crate::envelope::Envelope;
use crate::inbox::incoming::{CAUSATION_ID, EVENT_VERSION};
use crate::simulated::{self, Process};

/// How long a message stays locked for a link that says nothing.
const LOCK: Duration = Duration::from_secs(20);

/// What all processes of a world reach.
#[derive(Default)]
pub(super) struct Namespace {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<(String, String), Queue>,
    /// What services have published, each once.
    published: Vec<Envelope>,
    known: HashSet<uuid::Uuid>,
    sequence: i64,
    links: u64,
    cuts: u64,
    tokens: u64,
    away_until: Option<Instant>,
}

/// The messages of one subscription, in the order of their coming.
struct Queue {
    takes: Subscription,
    messages: Vec<Held>,
}

struct Held {
    message: Message,
    /// When it reaches the broker, where that is still to come.
    comes_at: Option<Instant>,
    lock: Option<Lock>,
}

#[derive(Clone, Copy)]
struct Lock {
    link: u64,
    token: u64,
    until: Instant,
}

impl Namespace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event, of whatever topic where none is given; returns to how many subscriptions it went.
    pub(super) fn take(&self, topic: Option<&str>, event: &Envelope) -> usize {
        let mut state = self.state();
        state.sequence += 1;
        let message = message(event, state.sequence);
        let takes = |queue: &&mut Queue| {
            let takes = &queue.takes;
            topic.is_none_or(|topic| takes.topic == topic)
                && (takes.everything || takes.events.contains(&event.name))
        };
        let taking = state.queues.values_mut().filter(takes);
        taking
            .map(|queue| queue.messages.push(Held { message: message.clone(), comes_at: None, lock: None }))
            .count()
    }

    /// Lets what waits come one after the other, at these times.
    pub(super) fn spread(&self, mut times: impl FnMut() -> Instant) {
        let mut state = self.state();
        let mut held: Vec<_> = state.queues.values_mut().flat_map(|queue| &mut queue.messages).collect();
        // One event comes to all its subscriptions at once.
        held.sort_by_key(|held| held.message.sequence_number);
        let events: Vec<_> =
            held.chunk_by_mut(|a, b| a.message.sequence_number == b.message.sequence_number).collect();
        let mut times: Vec<_> = events.iter().map(|_| times()).collect();
        times.sort();
        for (event, time) in events.into_iter().zip(times) {
            event.iter_mut().for_each(|held| held.comes_at = Some(time));
        }
    }

    /// A service has published an event, perhaps not for the first time.
    pub(super) fn note(&self, event: Envelope) {
        let mut state = self.state();
        if state.known.insert(event.id.as_uuid()) {
            state.published.push(event);
        }
    }

    /// What services have published, in the order of its first coming.
    pub(super) fn published(&self) -> Vec<Envelope> {
        self.state().published.clone()
    }

    /// Messages that are not settled.
    pub(super) fn waiting(&self) -> usize {
        self.state().queues.values().map(|queue| queue.messages.len()).sum()
    }

    /// Nobody reaches it for a while; links are lost.
    pub(super) fn go_away(&self, time: Duration) {
        self.state().away_until = Some(Instant::now() + time);
        self.cut();
    }

    /// All links are lost, with their locks.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.cuts += 1;
        state.queues.values_mut().for_each(|queue| queue.unlock(|_| true));
    }

    /// How often all links were lost.
    pub(super) fn cuts(&self) -> u64 {
        self.state().cuts
    }

    pub(super) fn is_away(&self) -> bool {
        self.state().away_until.is_some_and(|until| Instant::now() < until)
    }

    /// Locks messages of a subscription for a link, at most so many.
    pub(super) fn lock(&self, source: &Source, link: u64, max: usize) -> Vec<(u64, Message)> {
        let mut state = self.state();
        let mut token = state.tokens;
        let key = (source.topic.clone(), source.subscription.clone());
        let Some(queue) = state.queues.get_mut(&key) else { return Vec::new() };
        let now = Instant::now();
        queue.unlock(|lock| lock.until <= now);
        // Which link has a session has all of it.
        let session = |held: &Held| held.message.session_id.clone().filter(|_| queue.takes.ordered);
        let elsewhere = |held: &&Held| held.lock.is_some_and(|lock| lock.link != link);
        let taken: HashSet<_> = queue.messages.iter().filter(elsewhere).filter_map(session).collect();
        let mut locked = Vec::new();
        let is_free = |held: &&mut Held| held.lock.is_none() && held.comes_at.is_none_or(|time| time <= now);
        for held in queue.messages.iter_mut().filter(is_free) {
            let session = held.message.session_id.as_ref().filter(|_| queue.takes.ordered);
            if locked.len() < max && session.is_none_or(|session| !taken.contains(session)) {
                token += 1;
                held.lock = Some(Lock { link, token, until: now + LOCK });
                locked.push((token, held.message.clone()));
            }
        }
        state.tokens = token;
        locked
    }

    /// Settles what is still locked under these tokens; what is not comes again.
    pub(super) fn complete(&self, source: &Source, tokens: &[u64]) {
        let key = (source.topic.clone(), source.subscription.clone());
        if let Some(queue) = self.state().queues.get_mut(&key) {
            queue.messages.retain(|held| held.lock.is_none_or(|lock| !tokens.contains(&lock.token)));
        }
    }

    /// Gives back what a link has.
    pub(super) fn close(&self, link: u64) {
        self.state().queues.values_mut().for_each(|queue| queue.unlock(|lock| lock.link == link));
    }
}

impl Queue {
    fn unlock(&mut self, ends: impl Fn(Lock) -> bool) {
        for held in &mut self.messages {
            held.lock = held.lock.filter(|lock| !ends(*lock));
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

fn message(event: &Envelope, sequence: i64) -> Message {
    let mut properties = event.headers.clone();
    properties.insert(EVENT_VERSION.to_owned(), event.version.to_string());
    if let Some(cause) = &event.causation_id {
        properties.insert(CAUSATION_ID.to_owned(), cause.clone());
    }
    let millis = simulated::now().and_then(|now| u64::try_from(now).ok());
    Message {
        message_id: Some(event.id.to_string()),
        subject: Some(event.name.clone()),
        body: event.data.clone().into_bytes(),
        session_id: event.session_id.clone(),
        correlation_id: event.correlation_id.clone(),
        properties,
        sequence_number: sequence,
        enqueued_at: millis.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis)),
        expires_at: event.expires_at,
        ..Message::default()
    }
}

/// A process's way to the namespace.
#[derive(Clone, Debug)]
pub(super) struct SimulatedBroker {
    pub(super) namespace: Arc<Namespace>,
    pub(super) process: Arc<Process>,
}

impl SimulatedBroker {
    async fn send_batch(&self, topic: &str, events: &[Envelope]) -> Result<(), SendError> {
        let mut draw = self.process.draw("send");
        self.arrive().await?;
        let troubled = self.process.shared().is_troubled();
        let times = if troubled && draw.happens(4) { 2 } else { 1 };
        self.process.say(|| format!("sends {} events to {topic}, {times} times", events.len()));
        for event in events {
            self.namespace.note(event.clone());
        }
        for _ in 0..times {
            for event in events {
                self.namespace.take(Some(topic), event);
            }
        }
        if troubled && draw.happens(3) {
            self.process.say(|| "the broker's answer is lost".to_owned());
            return Err(unavailable("the answer is lost"));
        }
        self.arrive().await
    }

    async fn arrive(&self) -> Result<(), SendError> {
        self.process.travel(&mut self.process.draw("broker")).await;
        if self.namespace.is_away() { Err(unavailable("it can't be reached")) } else { Ok(()) }
    }
}

fn unavailable(reason: &str) -> SendError {
    SendError::Unavailable { reason: reason.to_owned(), retry_after: None }
}

impl Broker for SimulatedBroker {
    fn identity(&self) -> String {
        "simulation".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(256 * 1024, 100)
    }

    fn attach(&self, service: Service) {
        let mut state = self.namespace.state();
        for takes in service.subscriptions {
            let key = (takes.topic.clone(), takes.name.clone());
            state.queues.entry(key).or_insert_with(|| Queue { takes, messages: Vec::new() });
        }
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(self.send_batch(batch.topic, batch.events))
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            self.process.travel(&mut self.process.draw("open")).await;
            if self.namespace.is_away() {
                return Err(ReceiveError::Unavailable("it can't be reached".to_owned()));
            }
            let number = {
                let mut state = self.namespace.state();
                state.links += 1;
                state.links
            };
            Ok(Some(Box::new(Link::new(self.clone(), source.clone(), number)) as Box<dyn Receiver>))
        })
    }
}
