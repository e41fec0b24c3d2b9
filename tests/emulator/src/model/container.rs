//! Messages that wait in one place: an entity's own, those of a dead-letter queue, or those a topic holds back.
//!
//! Every message is found in the indexes that its state and lock say, and nowhere else: [`Container::change`] takes it
//! out, lets it change, and puts it where it belongs then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sessions::Sessions;
use super::{Delivery, LockToken, Message, MessageState, ReceiverId, Time};

/// What a message costs beside its bytes, so that empty ones aren't free.
const OVERHEAD: u64 = 256;
/// The same for an application property.
const PROPERTY: u64 = 100;

/// 2⁶⁴ / the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) message: Arc<Message>,
    pub(super) enqueued_sequence_number: Option<i64>,
    pub(super) enqueued: Time,
    pub(super) expires: Option<Time>,
    pub(super) delivery_count: u32,
    pub(super) hops: u32,
    pub(super) dead_letter_source: Option<String>,
    pub(super) place: Place,
    pub(super) lock: Option<Lock>,
}

/// What can be done with it when it isn't locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Ready,
    Deferred,
    Scheduled(Time),
}

/// Who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lock {
    pub(super) token: LockToken,
    /// In a session the session's lock counts, not this.
    pub(super) until: Time,
    pub(super) receiver: Option<ReceiverId>,
}

impl Stored {
    pub(super) fn session(&self) -> Option<&str> {
        self.message.properties.session_id.as_deref()
    }

    pub(super) fn size(&self) -> u64 {
        self.message.raw.len() as u64 + self.message.application.len() as u64 * PROPERTY + OVERHEAD
    }
}

/// How messages that can be received stand in line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Line {
    Plain { ready: BTreeSet<i64>, lock_ends: BTreeSet<(Time, i64)> },
    Sessions(Sessions),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Container {
    /// Boxed, so that the tree moves little when the first ones go.
    messages: BTreeMap<i64, Box<Stored>>,
    indexes: Indexes,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Indexes {
    line: Line,
    tokens: HashMap<LockToken, i64, TokenHash>,
    scheduled: BTreeSet<(Time, i64)>,
    /// When messages expire that nobody holds.
    expiries: BTreeSet<(Time, i64)>,
}

/// Tokens are made here and differ in their last eight bytes as hashes do: nobody can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct TokenHasher(u64);

type TokenHash = BuildHasherDefault<TokenHasher>;

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_be_bytes(*last).wrapping_mul(SPREAD);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Container {
    pub(super) fn new(requires_session: bool) -> Self {
        let line = if requires_session {
            Line::Sessions(Sessions::default())
        } else {
            Line::Plain { ready: BTreeSet::new(), lock_ends: BTreeSet::new() }
        };
        let indexes = Indexes {
            line,
            tokens: HashMap::default(),
            scheduled: BTreeSet::new(),
            expiries: BTreeSet::new(),
        };
        Self { messages: BTreeMap::new(), indexes, bytes: 0 }
    }

    pub(super) fn sessions(&self) -> Option<&Sessions> {
        match &self.indexes.line {
            Line::Sessions(sessions) => Some(sessions),
            Line::Plain { .. } => None,
        }
    }

    pub(super) fn sessions_mut(&mut self) -> Option<&mut Sessions> {
        match &mut self.indexes.line {
            Line::Sessions(sessions) => Some(sessions),
            Line::Plain { .. } => None,
        }
    }

    /// Of messages and of sessions' states.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.sessions().map_or(0, Sessions::state_bytes)
    }

    pub(super) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(super) fn scheduled_count(&self) -> u64 {
        self.indexes.scheduled.len() as u64
    }

    pub(super) fn get(&self, sequence_number: i64) -> Option<&Stored> {
        self.messages.get(&sequence_number).map(Box::as_ref)
    }

    pub(super) fn from(&self, sequence_number: i64) -> impl Iterator<Item = (i64, &Stored)> {
        self.messages.range(sequence_number..).map(|(number, stored)| (*number, stored.as_ref()))
    }

    pub(super) fn insert(&mut self, sequence_number: i64, stored: Stored) {
        self.bytes += stored.size();
        self.indexes.enter(sequence_number, &stored);
        self.messages.insert(sequence_number, Box::new(stored));
    }

    pub(super) fn remove(&mut self, sequence_number: i64) -> Option<Stored> {
        let stored = self.messages.remove(&sequence_number)?;
        self.bytes -= stored.size();
        self.indexes.leave(sequence_number, &stored);
        Some(*stored)
    }

    /// Changes what becomes of a message that is there. The message itself must stay the same.
    pub(super) fn change(&mut self, sequence_number: i64, change: impl FnOnce(&mut Stored)) {
        let Some(stored) = self.messages.get_mut(&sequence_number) else {
            return;
        };
        self.indexes.leave(sequence_number, stored);
        change(stored);
        self.indexes.enter(sequence_number, stored);
    }

    /// Locks a message that is there, and shows it then.
    pub(super) fn lock(&mut self, sequence_number: i64, lock: Lock) -> Option<Delivery> {
        let stored = self.messages.get_mut(&sequence_number)?;
        self.indexes.leave(sequence_number, stored);
        stored.lock = Some(lock);
        self.indexes.enter(sequence_number, stored);
        Some(self.indexes.show(sequence_number, stored))
    }

    /// Changes a message that is there; its session must stay the same.
    pub(super) fn change_message(&mut self, sequence_number: i64, change: impl FnOnce(&mut Message)) {
        let Some(stored) = self.messages.get_mut(&sequence_number) else {
            return;
        };
        self.bytes -= stored.size();
        change(Arc::make_mut(&mut stored.message));
        self.bytes += stored.size();
    }

    /// Whom a token belongs to.
    pub(super) fn by_token(&self, token: LockToken) -> Option<(i64, &Stored)> {
        let number = *self.indexes.tokens.get(&token)?;
        Some((number, self.get(number)?))
    }

    /// The first message to receive, in a session or in a line without sessions.
    pub(super) fn first_ready(&self, session: Option<&str>) -> Option<i64> {
        match &self.indexes.line {
            Line::Plain { ready, .. } => ready.first().copied(),
            Line::Sessions(sessions) => sessions.get(session?)?.ready.first().copied(),
        }
    }

    /// At least as many as there are to receive, in a line without sessions; in a session more seldom.
    pub(super) fn ready_count(&self) -> usize {
        match &self.indexes.line {
            Line::Plain { ready, .. } => ready.len(),
            Line::Sessions(_) => 0,
        }
    }

    /// Numbers of the messages that nobody holds, in order, of one session or of all.
    pub(super) fn ready(&self, session: Option<&str>) -> Vec<i64> {
        match (&self.indexes.line, session) {
            (Line::Plain { ready, .. }, _) => ready.iter().copied().collect(),
            (Line::Sessions(sessions), Some(session)) => sessions
                .get(session)
                .map(|session| session.ready.iter().copied().collect())
                .unwrap_or_default(),
            (Line::Sessions(_), None) => {
                let ready = |stored: &Stored| stored.place == Place::Ready && stored.lock.is_none();
                self.from(i64::MIN).filter(|(_, stored)| ready(stored)).map(|(number, _)| number).collect()
            }
        }
    }

    /// Messages that a receiver holds, outside of sessions.
    pub(super) fn held_by(&self, receiver: ReceiverId) -> Vec<i64> {
        let Line::Plain { lock_ends, .. } = &self.indexes.line else {
            return Vec::new();
        };
        let holds = |number: &i64| {
            self.messages
                .get(number)
                .and_then(|stored| stored.lock)
                .is_some_and(|lock| lock.receiver == Some(receiver))
        };
        lock_ends.iter().map(|(_, number)| *number).filter(holds).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let first = |times: &BTreeSet<(Time, i64)>| times.first().map(|(time, _)| *time);
        let lock = match &self.indexes.line {
            Line::Plain { lock_ends, .. } => first(lock_ends),
            Line::Sessions(sessions) => sessions.next_deadline(),
        };
        [lock, first(&self.indexes.scheduled), first(&self.indexes.expiries)].into_iter().flatten().min()
    }

    /// A message outside of sessions whose lock has ended by then.
    pub(super) fn lock_ended(&self, now: Time) -> Option<i64> {
        match &self.indexes.line {
            Line::Plain { lock_ends, .. } => due(lock_ends, now),
            Line::Sessions(_) => None,
        }
    }

    /// A scheduled message that is due by then.
    pub(super) fn arrived(&self, now: Time) -> Option<i64> {
        due(&self.indexes.scheduled, now)
    }

    /// A message that nobody holds and that has expired by then.
    pub(super) fn expired(&self, now: Time) -> Option<i64> {
        due(&self.indexes.expiries, now)
    }

    /// A message as clients see it.
    pub(super) fn show(&self, sequence_number: i64, stored: &Stored) -> Delivery {
        self.indexes.show(sequence_number, stored)
    }
}

fn due(times: &BTreeSet<(Time, i64)>, now: Time) -> Option<i64> {
    times.first().filter(|(time, _)| *time <= now).map(|(_, number)| *number)
}

impl Indexes {
    fn enter(&mut self, number: i64, stored: &Stored) {
        if let Some(lock) = stored.lock {
            self.tokens.insert(lock.token, number);
            match &mut self.line {
                Line::Plain { lock_ends, .. } => {
                    lock_ends.insert((lock.until, number));
                }
                Line::Sessions(sessions) => {
                    sessions.change(stored.session().unwrap_or_default(), |session| {
                        session.locked.insert(number)
                    });
                }
            }
            return;
        }
        match stored.place {
            Place::Deferred => {}
            Place::Scheduled(time) => {
                self.scheduled.insert((time, number));
            }
            Place::Ready => {
                if let Some(expires) = stored.expires {
                    self.expiries.insert((expires, number));
                }
                match &mut self.line {
                    Line::Plain { ready, .. } => {
                        ready.insert(number);
                    }
                    Line::Sessions(sessions) => {
                        sessions.change(stored.session().unwrap_or_default(), |session| {
                            session.ready.insert(number)
                        });
                    }
                }
            }
        }
    }

    fn leave(&mut self, number: i64, stored: &Stored) {
        if let Some(lock) = stored.lock {
            self.tokens.remove(&lock.token);
            match &mut self.line {
                Line::Plain { lock_ends, .. } => {
                    lock_ends.remove(&(lock.until, number));
                }
                Line::Sessions(sessions) => {
                    sessions.change(stored.session().unwrap_or_default(), |session| {
                        session.locked.remove(&number)
                    });
                }
            }
            return;
        }
        match stored.place {
            Place::Deferred => {}
            Place::Scheduled(time) => {
                self.scheduled.remove(&(time, number));
            }
            Place::Ready => {
                if let Some(expires) = stored.expires {
                    self.expiries.remove(&(expires, number));
                }
                match &mut self.line {
                    Line::Plain { ready, .. } => {
                        ready.remove(&number);
                    }
                    Line::Sessions(sessions) => {
                        sessions.change(stored.session().unwrap_or_default(), |session| {
                            session.ready.remove(&number)
                        });
                    }
                }
            }
        }
    }

    fn show(&self, sequence_number: i64, stored: &Stored) -> Delivery {
        let until = |lock: Lock| match &self.line {
            // A session that nobody holds can't have locked messages, but this is not the place to say so.
            Line::Sessions(sessions) => {
                let holder = stored.session().and_then(|session| sessions.holder(session));
                holder.map_or(lock.until, |holder| holder.until)
            }
            Line::Plain { .. } => lock.until,
        };
        Delivery {
            message: Arc::clone(&stored.message),
            sequence_number,
            enqueued_sequence_number: stored.enqueued_sequence_number,
            enqueued_time: stored.enqueued,
            expires: stored.expires,
            delivery_count: stored.delivery_count,
            state: match stored.place {
                Place::Ready => MessageState::Active,
                Place::Deferred => MessageState::Deferred,
                Place::Scheduled(_) => MessageState::Scheduled,
            },
            dead_letter_source: stored.dead_letter_source.clone(),
            lock: stored.lock.map(|lock| (lock.token, until(lock))),
        }
    }
}
