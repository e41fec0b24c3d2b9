//! What one application of an input carries along.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid, Variant, Version};

use super::{EntityPath, LockToken, Message, Span, Time};

/// Makes ids that differ from each other and, by the seed, from those of other namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ids {
    seed: u64,
    count: u64,
}

/// 2⁶² / the golden ratio, odd: multiplying by it visits every number below 2⁶² once.
const STEP: u64 = 0x278d_de6e_5fd2_9e5b;

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    pub(super) fn next(&mut self) -> Uuid {
        self.count += 1;
        // Six bits are overwritten: the four of the version fall on the seed, and the two of the variant on bits that
        // the product never has.
        let low = self.count.wrapping_mul(STEP) & (u64::MAX >> 2);
        let bytes = Uuid::from_u64_pair(self.seed, low).into_bytes();
        Builder::from_bytes(bytes).with_variant(Variant::RFC4122).with_version(Version::Custom).into_uuid()
    }
}

/// A message on its way into an entity.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) message: Arc<Message>,
    /// Its number where it came from.
    pub(super) sequence_number: i64,
    /// Its number at the first entity that took it.
    pub(super) enqueued_sequence_number: Option<i64>,
    /// Forwardings so far.
    pub(super) hops: u32,
    pub(super) dead_letter_source: Option<String>,
    /// The topic's default, which caps the time to live beside the message's own and the entity's.
    pub(super) time_to_live: Span,
}

impl Arrival {
    /// A message that comes from a client.
    pub(super) fn fresh(message: Arc<Message>) -> Self {
        Self {
            message,
            sequence_number: 0,
            enqueued_sequence_number: None,
            hops: 0,
            dead_letter_source: None,
            time_to_live: Span::FOREVER,
        }
    }
}

/// A message between two entities.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) to: EntityPath,
    pub(super) arrival: Arrival,
    pub(super) kind: PostKind,
}

#[derive(Debug)]
pub(super) enum PostKind {
    /// By auto-forwarding: it goes to that entity's dead-letter queue when it can't be delivered.
    Forward { from: EntityPath },
    /// From a topic to its subscription, whose rules let it through.
    Copy,
    /// From a topic to the dead-letter queue of its subscription, whose rules failed.
    Exception { reason: &'static str, text: String },
}

/// The state of one `apply`.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Time,
    pub(super) ids: Ids,
    /// What is to be delivered before the turn ends.
    pub(super) outbox: VecDeque<Post>,
    /// Entities whose deadline may be another now.
    pub(super) dirty: Vec<EntityPath>,
    woken: Vec<EntityPath>,
    pub(super) changed: bool,
}

impl Turn {
    pub(super) fn new(now: Time, ids: Ids) -> Self {
        Self { now, ids, outbox: VecDeque::new(), dirty: Vec::new(), woken: Vec::new(), changed: false }
    }

    pub(super) fn token(&mut self) -> LockToken {
        LockToken(self.ids.next())
    }

    /// The entity (without its sub-queue) changed.
    pub(super) fn mark(&mut self, entity: &EntityPath) {
        self.changed = true;
        if self.dirty.last() != Some(entity) {
            self.dirty.push(entity.clone());
        }
    }

    /// Receivers at that entity or sub-queue should look.
    pub(super) fn wake(&mut self, entity: &EntityPath) {
        if self.woken.last() != Some(entity) {
            self.woken.push(entity.clone());
        }
    }

    pub(super) fn into_woken(mut self) -> Vec<EntityPath> {
        self.woken.sort();
        self.woken.dedup();
        self.woken
    }
}
