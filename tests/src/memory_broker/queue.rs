//! One subscription's messages: in order, locked while a link has them.

use std::collections::{BTreeSet, HashSet};
use std::time::SystemTime;

use distributed_events::broker::Message;

/// How often a message may come back before it is dead-lettered.
const MAX_DELIVERIES: u32 = 10;

#[derive(Default)]
pub(crate) struct Queue {
    names: BTreeSet<String>,
    messages: Vec<Held>,
    tokens: u64,
    completed: u64,
    dead_letters: Option<Box<Self>>,
}

/// A message and who has it.
struct Held {
    message: Message,
    lock: Option<Lock>,
    deliveries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Lock {
    link: u64,
    token: u64,
}

impl Queue {
    /// Takes these events from now on.
    pub(crate) fn subscribe(&mut self, names: Vec<String>) {
        self.names = names.into_iter().collect();
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(Held { message, lock: None, deliveries: 0 });
    }

    pub(crate) fn dead_letters(&mut self) -> &mut Self {
        self.dead_letters.get_or_insert_default()
    }

    /// Locks messages for a link, in order; none of a session that another link has a message of.
    pub(crate) fn lock(&mut self, link: u64, max: usize) -> Vec<(u64, Message)> {
        self.expire();
        let elsewhere: HashSet<_> = self
            .messages
            .iter()
            .filter(|held| held.lock.is_some_and(|lock| lock.link != link))
            .filter_map(|held| held.message.session_id.clone())
            .collect();
        let free = |held: &&mut Held| {
            held.lock.is_none()
                && held.message.session_id.as_ref().is_none_or(|session| !elsewhere.contains(session))
        };
        let mut locked = Vec::new();
        for held in self.messages.iter_mut().filter(free).take(max) {
            self.tokens += 1;
            held.lock = Some(Lock { link, token: self.tokens });
            locked.push((self.tokens, held.message.clone()));
        }
        locked
    }

    fn expire(&mut self) {
        let now = SystemTime::now();
        let expired: Vec<_> = self
            .messages
            .extract_if(.., |held| {
                held.lock.is_none() && held.message.expires_at.is_some_and(|time| time <= now)
            })
            .collect();
        for held in expired {
            self.dead_letter(held.message, "TTLExpiredException");
        }
    }

    pub(crate) fn dead_letter(&mut self, mut message: Message, reason: &str) {
        message.dead_letter_reason = Some(reason.to_owned());
        message.expires_at = None;
        self.dead_letters().push(message);
    }

    /// Removes messages that are locked under these tokens; `false` when a lock was lost.
    pub(crate) fn complete(&mut self, link: u64, tokens: &[u64]) -> bool {
        let before = self.messages.len();
        self.messages
            .retain(|held| !held.lock.is_some_and(|lock| lock.link == link && tokens.contains(&lock.token)));
        let gone = before - self.messages.len();
        self.completed += gone as u64;
        gone == tokens.len()
    }

    /// Gives messages back: those of a link under these tokens, or whatever the locks say.
    pub(crate) fn unlock(&mut self, gives_back: impl Fn(u64, u64) -> bool) {
        for held in &mut self.messages {
            if held.lock.is_some_and(|lock| gives_back(lock.link, lock.token)) {
                held.lock = None;
                held.deliveries += 1;
            }
        }
        let refused: Vec<_> =
            self.messages.extract_if(.., |held| held.deliveries >= MAX_DELIVERIES).collect();
        for held in refused {
            self.dead_letter(held.message, "MaxDeliveryCountExceeded");
        }
    }

    /// Messages that are not completed, and how many of them are locked.
    pub(crate) fn length(&self) -> (usize, usize) {
        (self.messages.len(), self.messages.iter().filter(|held| held.lock.is_some()).count())
    }

    pub(crate) fn completed(&self) -> u64 {
        self.completed
    }
}
