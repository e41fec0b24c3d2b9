//! What a queue and a subscription have in common: messages, their dead-letter queues, and what becomes of them.

mod receiving;
mod settling;

pub(super) use receiving::{Caller, MOST_PEEKED};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::container::{Container, Place, Stored};
use super::history::History;
use super::sending::check_quota;
use super::turn::{Arrival, Post, PostKind, Turn};
use super::{
    Counts, EntityPath, Fault, QueueSettings, Span, Stamps, Status, SubQueue, SubscriptionSettings, Time,
    Value,
};

/// Megabytes of a subscription, where its topic has none of its own to say: Service Bus's largest.
const LARGEST_SUBSCRIPTION: u32 = 5120;
/// Forwardings that a message survives.
pub(super) const MOST_HOPS: u32 = 4;

/// A queue or a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub(super) path: EntityPath,
    pub(super) kind: Kind,
    /// What `kind` says, in one form for both.
    policy: Policy,
    pub(super) stamps: Stamps,
    main: Container,
    dead_letter: Container,
    transfer_dead_letter: Container,
    next_sequence_number: i64,
    history: History,
    /// Receivers that are open; while there are any the entity isn't idle.
    pub(super) open: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    Queue(QueueSettings),
    Subscription(SubscriptionSettings),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) lock_duration: Span,
    pub(super) max_delivery_count: u32,
    pub(super) time_to_live: Span,
    pub(super) dead_letter_expired: bool,
    pub(super) requires_session: bool,
    pub(super) status: Status,
    pub(super) forward_to: Option<EntityPath>,
    pub(super) forward_dead_lettered_to: Option<EntityPath>,
    pub(super) auto_delete_on_idle: Span,
    /// The window of duplicate detection, and whether partition keys count.
    pub(super) duplicates: Option<(Span, bool)>,
}

impl Kind {
    fn policy(&self) -> Policy {
        match self {
            Self::Queue(settings) => Policy {
                lock_duration: settings.lock_duration,
                max_delivery_count: settings.max_delivery_count,
                time_to_live: settings.default_message_time_to_live,
                dead_letter_expired: settings.dead_lettering_on_message_expiration,
                requires_session: settings.requires_session,
                status: settings.status,
                forward_to: settings.forward_to.clone(),
                forward_dead_lettered_to: settings.forward_dead_lettered_messages_to.clone(),
                auto_delete_on_idle: settings.auto_delete_on_idle,
                duplicates: settings.requires_duplicate_detection.then_some((
                    settings.duplicate_detection_history_time_window,
                    settings.enable_partitioning,
                )),
            },
            Self::Subscription(settings) => Policy {
                lock_duration: settings.lock_duration,
                max_delivery_count: settings.max_delivery_count,
                time_to_live: settings.default_message_time_to_live,
                dead_letter_expired: settings.dead_lettering_on_message_expiration,
                requires_session: settings.requires_session,
                status: settings.status,
                forward_to: settings.forward_to.clone(),
                forward_dead_lettered_to: settings.forward_dead_lettered_messages_to.clone(),
                auto_delete_on_idle: settings.auto_delete_on_idle,
                duplicates: None,
            },
        }
    }
}

/// Why a message is dead-lettered.
pub(super) struct Reason {
    pub(super) reason: Option<String>,
    pub(super) description: Option<String>,
}

impl Reason {
    pub(super) fn new(reason: &str, description: impl Into<String>) -> Self {
        Self { reason: Some(reason.to_owned()), description: Some(description.into()) }
    }
}

impl Queue {
    pub(super) fn new(path: EntityPath, kind: Kind, now: Time) -> Self {
        let policy = kind.policy();
        Self {
            path,
            main: Container::new(policy.requires_session),
            dead_letter: Container::new(false),
            transfer_dead_letter: Container::new(false),
            next_sequence_number: 1,
            history: History::default(),
            open: 0,
            stamps: Stamps { created: now, updated: now, accessed: now },
            kind,
            policy,
        }
    }

    /// Other settings; what waits is forwarded if that is what they say.
    pub(super) fn update(&mut self, turn: &mut Turn, kind: Kind) {
        self.policy = kind.policy();
        self.kind = kind;
        self.stamps.updated = turn.now;
        self.touch(turn);
        if self.policy.forward_to.is_some() {
            for number in self.main.ready(None) {
                if let Some(stored) = self.main.remove(number) {
                    let arrival = onward(number, stored);
                    self.place(turn, number, arrival);
                }
            }
        }
    }

    /// Somebody used the entity, and it changed by that.
    pub(super) fn touch(&mut self, turn: &mut Turn) {
        self.stamps.accessed = turn.now;
        turn.mark(&self.path);
    }

    fn container(&self, sub: SubQueue) -> &Container {
        match sub {
            SubQueue::Main => &self.main,
            SubQueue::DeadLetter => &self.dead_letter,
            SubQueue::TransferDeadLetter => &self.transfer_dead_letter,
        }
    }

    fn container_mut(&mut self, sub: SubQueue) -> &mut Container {
        match sub {
            SubQueue::Main => &mut self.main,
            SubQueue::DeadLetter => &mut self.dead_letter,
            SubQueue::TransferDeadLetter => &mut self.transfer_dead_letter,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            active: self.main.count() - self.main.scheduled_count(),
            dead_letter: self.dead_letter.count(),
            scheduled: self.main.scheduled_count(),
            transfer: 0,
            transfer_dead_letter: self.transfer_dead_letter.count(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.main.bytes() + self.dead_letter.bytes() + self.transfer_dead_letter.bytes()
    }

    pub(super) fn is_duplicate(&mut self, now: Time, message: &super::Message) -> bool {
        let Some((window, partitioned)) = self.policy.duplicates else {
            return false;
        };
        self.history.is_duplicate(now, window, partitioned, message)
    }

    /// Whether there is room for a session's state. A subscription's is bounded where its topic takes messages in.
    fn check_room(&self, more: u64) -> Result<(), Fault> {
        let megabytes = match &self.kind {
            Kind::Queue(settings) => settings.max_size_in_megabytes,
            Kind::Subscription(_) => LARGEST_SUBSCRIPTION,
        };
        check_quota(&self.path, megabytes, self.bytes(), more)
    }

    fn next_number(&mut self) -> i64 {
        let number = self.next_sequence_number;
        self.next_sequence_number += 1;
        number
    }

    /// Takes a message in and gives it its number.
    pub(super) fn arrive(&mut self, turn: &mut Turn, arrival: Arrival) -> i64 {
        let number = self.next_number();
        self.place(turn, number, arrival);
        number
    }

    /// Keeps a message until it is to arrive. The number holds until then.
    pub(super) fn schedule(&mut self, turn: &mut Turn, arrival: Arrival, at: Time) -> i64 {
        let number = self.next_number();
        let mut stored = self.stored(turn.now, arrival);
        stored.place = Place::Scheduled(at);
        stored.expires = None;
        self.main.insert(number, stored);
        turn.mark(&self.path);
        number
    }

    pub(super) fn scheduled(&self, number: i64) -> bool {
        self.main.get(number).is_some_and(|stored| matches!(stored.place, Place::Scheduled(_)))
    }

    pub(super) fn cancel(&mut self, turn: &mut Turn, number: i64) {
        self.main.remove(number);
        self.touch(turn);
    }

    fn place(&mut self, turn: &mut Turn, number: i64, arrival: Arrival) {
        turn.mark(&self.path);
        if self.policy.requires_session && arrival.message.properties.session_id.is_none() {
            let text = "A message without a session id came to an entity that requires sessions.";
            self.bury(turn, number, arrival, &Reason::new("Session ID is null.", text));
        } else if let Some(to) = self.policy.forward_to.clone() {
            let from = self.path.clone();
            let enqueued_sequence_number = Some(arrival.enqueued_sequence_number.unwrap_or(number));
            let hops = arrival.hops + 1;
            let arrival = Arrival { sequence_number: number, enqueued_sequence_number, hops, ..arrival };
            turn.outbox.push_back(Post { to, arrival, kind: PostKind::Forward { from } });
        } else {
            let stored = self.stored(turn.now, arrival);
            self.main.insert(number, stored);
            turn.wake(&self.path);
        }
    }

    fn stored(&self, now: Time, arrival: Arrival) -> Stored {
        let own = arrival.message.time_to_live.unwrap_or(Span::FOREVER);
        let time_to_live = own.min(arrival.time_to_live).min(self.policy.time_to_live);
        Stored {
            enqueued: now,
            expires: (time_to_live != Span::FOREVER).then(|| now + time_to_live),
            message: arrival.message,
            enqueued_sequence_number: arrival.enqueued_sequence_number,
            delivery_count: 0,
            hops: arrival.hops,
            dead_letter_source: arrival.dead_letter_source,
            place: Place::Ready,
            lock: None,
        }
    }

    /// A message that never became receivable here goes to the dead-letter queue.
    pub(super) fn bury(&mut self, turn: &mut Turn, number: i64, arrival: Arrival, reason: &Reason) {
        let stored = self.stored(turn.now, arrival);
        self.lay(turn, number, stored, reason, true);
    }

    /// A message whose forwarding failed comes back to the dead-letter queue, and isn't forwarded from there again.
    pub(super) fn bounce(&mut self, turn: &mut Turn, arrival: Arrival, reason: &Reason) {
        let number = arrival.sequence_number;
        let stored = self.stored(turn.now, arrival);
        self.lay(turn, number, stored, reason, false);
    }

    /// A message of the main queue goes to the dead-letter queue. It keeps its number: both are one sequence.
    fn dead_letter(&mut self, turn: &mut Turn, number: i64, reason: &Reason) {
        if let Some(stored) = self.main.remove(number) {
            self.lay(turn, number, stored, reason, true);
        }
    }

    fn lay(&mut self, turn: &mut Turn, number: i64, mut stored: Stored, reason: &Reason, forward: bool) {
        let message = Arc::make_mut(&mut stored.message);
        for (name, value) in
            [("DeadLetterReason", &reason.reason), ("DeadLetterErrorDescription", &reason.description)]
        {
            if let Some(text) = value {
                message.set_application(name, Some(Value::String(text.clone())));
            }
        }
        stored.place = Place::Ready;
        stored.lock = None;
        stored.expires = None;
        turn.mark(&self.path);
        if let Some(to) = self.policy.forward_dead_lettered_to.clone().filter(|_| forward) {
            let mut arrival = onward(number, stored);
            arrival.dead_letter_source.get_or_insert_with(|| self.path.to_string());
            arrival.hops += 1;
            turn.outbox.push_back(Post { to, arrival, kind: PostKind::Forward { from: self.path.clone() } });
        } else {
            // Numbers are free here: a message is either in the main queue or in this one.
            self.dead_letter.insert(number, stored);
            turn.wake(&self.path.with(SubQueue::DeadLetter));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let idle = self.policy.auto_delete_on_idle;
        let idle = (idle != Span::FOREVER && self.open == 0).then(|| self.stamps.accessed + idle);
        [
            self.main.next_deadline(),
            self.dead_letter.next_deadline(),
            self.transfer_dead_letter.next_deadline(),
            idle,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn is_idle(&self, now: Time) -> bool {
        let idle = self.policy.auto_delete_on_idle;
        idle != Span::FOREVER && self.open == 0 && self.stamps.accessed + idle <= now
    }

    /// Lets happen what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn) {
        if let Some((window, _)) = self.policy.duplicates {
            self.history.forget(turn.now, window);
        }
        for sub in [SubQueue::Main, SubQueue::DeadLetter, SubQueue::TransferDeadLetter] {
            while let Some(number) = self.container(sub).lock_ended(turn.now) {
                self.come_back(turn, sub, number, true);
            }
        }
        while let Some(session) = self.main.sessions().and_then(|sessions| sessions.ended(turn.now)) {
            self.free_session(turn, &session, true);
        }
        while let Some(number) = self.main.arrived(turn.now) {
            if let Some(stored) = self.main.remove(number) {
                let mut arrival = onward(number, stored);
                arrival.enqueued_sequence_number = None;
                self.arrive(turn, arrival);
            }
        }
        while let Some(number) = self.main.expired(turn.now) {
            turn.mark(&self.path);
            if self.policy.dead_letter_expired {
                let text = "The message expired and was dead lettered.";
                self.dead_letter(turn, number, &Reason::new("TTLExpiredException", text));
            } else {
                self.main.remove(number);
            }
        }
        turn.mark(&self.path);
    }

    /// A rule's filter or action failed on a message.
    pub(super) fn filter_failed(&mut self, turn: &mut Turn, arrival: Arrival, reason: &Reason) {
        let Kind::Subscription(settings) = &self.kind else {
            return;
        };
        if settings.dead_lettering_on_filter_evaluation_exceptions {
            let number = self.next_number();
            self.bury(turn, number, arrival, reason);
        }
    }
}

/// A message that leaves its place for another.
fn onward(number: i64, stored: Stored) -> Arrival {
    Arrival {
        enqueued_sequence_number: stored.enqueued_sequence_number.or(Some(number)),
        message: stored.message,
        sequence_number: number,
        hops: stored.hops,
        dead_letter_source: stored.dead_letter_source,
        time_to_live: Span::FOREVER,
    }
}
