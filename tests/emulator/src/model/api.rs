//! What goes into the model and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    EntityPath, Fault, Filter, Message, QueueSettings, RuleSettings, SubscriptionSettings, Time,
    TopicSettings, Value,
};

/// Somebody who receives: a link of the AMQP door. Its locks end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReceiverId(pub u64);

/// The proof of holding a message. `Uuid::to_bytes_le` makes a delivery tag of it; `$management` takes it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockToken(pub Uuid);

/// Whether a received message is gone at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiveMode {
    /// It is locked, and comes back unless it is settled.
    PeekLock,
    /// It is gone.
    ReceiveAndDelete,
}

/// Which session to lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionWish {
    /// This one, which need not have messages.
    Named(String),
    /// One that has messages and isn't locked.
    Next,
}

/// Application properties to set on a message that is settled.
pub type Modify = BTreeMap<String, Value>;

/// What becomes of a locked message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields speak for themselves")]
pub enum Outcome {
    /// Done with it.
    Complete,
    /// Back, with one more failed delivery.
    Abandon { modify: Modify },
    /// Set aside: from now on it is found by its sequence number alone.
    Defer { modify: Modify },
    /// To the dead-letter sub-queue.
    DeadLetter { reason: Option<String>, description: Option<String>, modify: Modify },
    /// Back, as if it had not been delivered.
    Release,
}

/// Every change of the model. This is what the journal stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields speak for themselves")]
pub enum Input {
    /// Lets what is due happen: locks and messages expire, scheduled messages arrive, histories are forgotten, idle
    /// entities go. Every other input does it first, too.
    Tick,
    /// The process was started again: all receivers are gone, as by `CloseReceiver`.
    Restart,

    CreateQueue {
        path: EntityPath,
        settings: QueueSettings,
    },
    /// Replaces all settings.
    UpdateQueue {
        path: EntityPath,
        settings: QueueSettings,
    },
    CreateTopic {
        path: EntityPath,
        settings: TopicSettings,
    },
    UpdateTopic {
        path: EntityPath,
        settings: TopicSettings,
    },
    /// `rule` is the first rule and its name: `$Default` with a true filter when `None`.
    CreateSubscription {
        path: EntityPath,
        settings: SubscriptionSettings,
        rule: Option<(String, RuleSettings)>,
    },
    UpdateSubscription {
        path: EntityPath,
        settings: SubscriptionSettings,
    },
    /// A queue, a topic with its subscriptions, or a subscription.
    DeleteEntity {
        path: EntityPath,
    },
    CreateRule {
        subscription: EntityPath,
        name: String,
        rule: RuleSettings,
    },
    UpdateRule {
        subscription: EntityPath,
        name: String,
        rule: RuleSettings,
    },
    DeleteRule {
        subscription: EntityPath,
        name: String,
    },

    /// To a queue or topic, all or none. A message with a later `scheduled_enqueue_time` is scheduled.
    /// → [`Output::Sent`]
    Send {
        entity: EntityPath,
        messages: Vec<Message>,
    },
    /// Like `Send`, where every message has a `scheduled_enqueue_time`. → [`Output::Sent`]
    Schedule {
        entity: EntityPath,
        messages: Vec<Message>,
    },
    /// All or none.
    CancelScheduled {
        entity: EntityPath,
        sequence_numbers: Vec<i64>,
    },

    /// A receiver of a plain entity (or of any dead-letter queue) is there. A session receiver says `AcceptSession`
    /// instead. While one is open its entity isn't idle.
    OpenReceiver {
        entity: EntityPath,
        receiver: ReceiverId,
    },
    /// The receiver is gone: its messages come back and its session is free.
    CloseReceiver {
        receiver: ReceiverId,
    },
    /// `receiver` is none for callers that leave no trace but the lock (HTTP). With a session its holder must ask.
    /// Nothing there is an empty [`Output::Received`].
    Receive {
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        mode: ReceiveMode,
        max: u32,
    },
    /// Deferred messages by number, all or none. → [`Output::Received`]
    ReceiveDeferred {
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        mode: ReceiveMode,
        sequence_numbers: Vec<i64>,
    },
    /// → [`Output::Settled`]. A `receiver` must be the one that holds the lock; none matches any.
    Settle {
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        tokens: Vec<LockToken>,
        outcome: Outcome,
    },
    /// All or none. → [`Output::Renewed`]
    RenewLocks {
        entity: EntityPath,
        session: Option<String>,
        tokens: Vec<LockToken>,
    },
    /// Removes up to `max` messages that were enqueued before. → [`Output::Deleted`]
    DeleteMessages {
        entity: EntityPath,
        session: Option<String>,
        max: u32,
        before: Time,
    },

    /// → [`Output::Session`], or the fault timeout when no next session is there.
    AcceptSession {
        entity: EntityPath,
        receiver: ReceiverId,
        wish: SessionWish,
    },
    /// → [`Output::Renewed`] with one time. A `receiver` must be the holder.
    RenewSession {
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: String,
    },
    SetSessionState {
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: String,
        state: Option<Bytes>,
    },

    /// Refuses sends and receives with server-busy until then; all entities when none is named.
    InjectServerBusy {
        entity: Option<EntityPath>,
        until: Time,
    },
}

/// What an input gave.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the inputs say which they give")]
pub enum Output {
    Done,
    Sent {
        sequence_numbers: Vec<i64>,
    },
    Received(Vec<Delivery>),
    /// One for each token, in order.
    Settled(Vec<Result<(), Fault>>),
    Renewed(Vec<Time>),
    Deleted(u32),
    Session(SessionGrant),
}

/// An applied input.
#[derive(Debug)]
pub struct Applied {
    /// What it gave.
    pub output: Result<Output, Fault>,
    /// Whether anything changed. A fault can come with a change: what was due happened first.
    pub changed: bool,
    /// Entities (with their sub-queues) where receivers should look: something can be received there, a session lock
    /// was lost there, or the entity is gone.
    pub woken: Vec<EntityPath>,
}

/// `x-opt-message-state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub enum MessageState {
    Active = 0,
    Deferred = 1,
    Scheduled = 2,
}

/// A message on its way out, received or peeked.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// `x-opt-sequence-number`
    pub sequence_number: i64,
    /// `x-opt-enqueue-sequence-number`: the number at the first entity that took the message, where it was another.
    pub enqueued_sequence_number: Option<i64>,
    /// `x-opt-enqueued-time`
    pub enqueued_time: Time,
    /// `absolute-expiry-time`
    pub expires: Option<Time>,
    /// `header.delivery-count`: earlier failed deliveries.
    pub delivery_count: u32,
    /// `x-opt-message-state`
    pub state: MessageState,
    /// `x-opt-deadletter-source`
    pub dead_letter_source: Option<String>,
    /// The lock, under peek-lock.
    pub lock: Option<(LockToken, Time)>,
}

/// A locked session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    /// Which.
    pub session_id: String,
    /// Until when, unless renewed.
    pub locked_until: Time,
}

/// How many messages of each kind an entity has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct Counts {
    /// With the deferred ones, as Service Bus counts.
    pub active: u64,
    pub dead_letter: u64,
    pub scheduled: u64,
    pub transfer: u64,
    pub transfer_dead_letter: u64,
}

/// When things happened to an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct Stamps {
    pub created: Time,
    pub updated: Time,
    pub accessed: Time,
}

/// A queue as the management API shows it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct QueueInfo {
    pub path: EntityPath,
    pub settings: QueueSettings,
    pub stamps: Stamps,
    pub counts: Counts,
    pub size_in_bytes: u64,
}

/// A topic as the management API shows it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct TopicInfo {
    pub path: EntityPath,
    pub settings: TopicSettings,
    pub stamps: Stamps,
    /// Scheduled ones alone are held at a topic.
    pub counts: Counts,
    pub size_in_bytes: u64,
    pub subscription_count: u32,
    pub sql_filter_count: u32,
    pub correlation_filter_count: u32,
}

/// A subscription as the management API shows it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct SubscriptionInfo {
    pub path: EntityPath,
    pub settings: SubscriptionSettings,
    pub stamps: Stamps,
    pub counts: Counts,
}

/// A rule as the management API shows it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct RuleInfo {
    pub name: String,
    pub rule: RuleSettings,
    pub created: Time,
}

impl RuleInfo {
    /// Whether the filter is SQL: true and false filters count as such, as in Service Bus.
    #[must_use]
    pub fn is_sql(&self) -> bool {
        !matches!(self.rule.filter, Filter::Correlation(_))
    }
}

/// An entity of any kind.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub enum EntityInfo {
    Queue(QueueInfo),
    Topic(TopicInfo),
    Subscription(SubscriptionInfo),
}

/// What a sender needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderLimits {
    /// Bytes of one message, and of a batch of them.
    pub max_message_size: u64,
}
