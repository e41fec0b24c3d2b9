//! The rows and requests in the port's signatures.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Fence;
use crate::envelope::{Envelope, EventId, Headers};

/// Which outbox rows to read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OutboxQuery<'a> {
    /// The lane.
    pub lane: &'a str,
    /// Rows with a greater sequence number only; of delayed rows, those that became due after that one did.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
    /// `None`: rows that were never delayed. Else rows whose delay is over so long from now.
    pub due_in: Option<Duration>,
    /// Sequence numbers that are left out, because the reader has dealt with them.
    pub except: &'a [i64],
}

impl<'a> OutboxQuery<'a> {
    /// Rows of a lane from the beginning that were never delayed.
    #[must_use]
    pub const fn new(lane: &'a str, limit: u32) -> Self {
        Self { lane, after: 0, limit, due_in: None, except: &[] }
    }

    /// The same after a sequence number.
    #[must_use]
    pub const fn after(mut self, seq: i64) -> Self {
        self.after = seq;
        self
    }

    /// Rows whose delay is over, instead.
    #[must_use]
    pub const fn due(self) -> Self {
        self.due_in(Duration::ZERO)
    }

    /// Rows whose delay is over so long from now, instead.
    #[must_use]
    pub const fn due_in(mut self, ahead: Duration) -> Self {
        self.due_in = Some(ahead);
        self
    }

    /// The same without these rows.
    #[must_use]
    pub const fn except(mut self, seqs: &'a [i64]) -> Self {
        self.except = seqs;
        self
    }
}

/// A pending row of the outbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboxRow {
    /// Its place in the outbox.
    pub seq: i64,
    /// The event.
    pub envelope: Envelope,
    /// Whether its time to live is over, by the database's clock.
    pub expired: bool,
    /// Why it can't be read: something else has written to the table. The envelope has what could be.
    pub unreadable: Option<String>,
}

impl OutboxRow {
    /// A row as an adapter read it.
    #[must_use]
    pub const fn new(seq: i64, envelope: Envelope, expired: bool) -> Self {
        Self { seq, envelope, expired, unreadable: None }
    }

    /// A row of which only this could be read, and why.
    #[must_use]
    pub fn unreadable(seq: i64, id: EventId, session_id: Option<String>, reason: String) -> Self {
        let envelope = Envelope { session_id, ..Envelope::new(id, "(unreadable)", "") };
        Self { unreadable: Some(reason), ..Self::new(seq, envelope, false) }
    }
}

/// What becomes of rows once they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SentRows {
    /// They stay, with their time, until retention takes them.
    #[default]
    Keep,
    /// They are deleted at once.
    Delete,
}

/// An event's body as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// UTF-8 text without NUL.
    Text(String),
    /// Anything else.
    Raw(Vec<u8>),
}

impl Body {
    /// Text where the bytes are UTF-8 without NUL, else the bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Self::Text(text),
            Ok(text) => Self::Raw(text.into_bytes()),
            Err(error) => Self::Raw(error.into_bytes()),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

/// An event as it is stored in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IncomingEvent {
    /// Identity within the subscription (rule 14).
    pub id: EventId,
    /// The message id as the wire had it.
    pub message_id: String,
    /// The wire name.
    pub name: String,
    /// The version; 1 where the message carries none.
    pub version: u32,
    /// The body.
    pub body: Body,
    /// The topic it came by.
    pub topic: Option<String>,
    /// The session that keeps its order, if any.
    pub session_id: Option<String>,
    /// Correlation id.
    pub correlation_id: Option<String>,
    /// Causation id.
    pub causation_id: Option<String>,
    /// Headers.
    pub headers: Headers,
    /// When it was published, where the message says so.
    pub created_at: Option<SystemTime>,
    /// After this no handler starts on it.
    pub expires_at: Option<SystemTime>,
    /// Store it as dead, with this reason.
    pub dead: Option<String>,
}

impl IncomingEvent {
    /// An event with an identity, a name and a body, and nothing else set.
    #[must_use]
    pub fn new(id: EventId, name: impl Into<String>, body: Body) -> Self {
        Self {
            id,
            message_id: id.to_string(),
            name: name.into(),
            version: 1,
            body,
            topic: None,
            session_id: None,
            correlation_id: None,
            causation_id: None,
            headers: Headers::new(),
            created_at: None,
            expires_at: None,
            dead: None,
        }
    }

    /// The text whose hash decides the shard: the session, or the id where there is none.
    #[must_use]
    pub fn shard_key(&self) -> String {
        self.session_id.clone().unwrap_or_else(|| self.id.to_string())
    }
}

impl From<&Envelope> for IncomingEvent {
    fn from(envelope: &Envelope) -> Self {
        Self {
            version: envelope.version,
            topic: envelope.topic.clone(),
            session_id: envelope.session_id.clone(),
            correlation_id: envelope.correlation_id.clone(),
            causation_id: envelope.causation_id.clone(),
            headers: envelope.headers.clone(),
            created_at: Some(envelope.created_at),
            expires_at: envelope.expires_at,
            ..Self::new(envelope.id, envelope.name.clone(), Body::Text(envelope.data.clone()))
        }
    }
}

/// What an ingest did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestReport {
    /// Rows that were new.
    pub inserted: u64,
    /// Events that were there already, by (subscription, id) and under the same name.
    pub duplicates: u64,
    /// Events whose id was there under another name: stored as dead under a derived id (rule 14).
    pub conflicts: u64,
    /// Rows stored as dead because the database refuses their values.
    pub refused: u64,
}

/// Which inbox rows to read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct InboxQuery<'a> {
    /// The subscription.
    pub subscription: &'a str,
    /// The shard.
    pub shard: u8,
    /// Rows with a greater sequence number only.
    pub after: i64,
    /// Sessions whose rows are left out.
    pub blocked: &'a [String],
    /// Sequence numbers that are left out, because the reader has dealt with them.
    pub except: &'a [i64],
    /// At most so many.
    pub limit: u32,
}

impl<'a> InboxQuery<'a> {
    /// Rows of a shard from the beginning.
    #[must_use]
    pub const fn new(subscription: &'a str, shard: u8, limit: u32) -> Self {
        Self { subscription, shard, after: 0, blocked: &[], except: &[], limit }
    }

    /// The same after a sequence number.
    #[must_use]
    pub const fn after(mut self, seq: i64) -> Self {
        self.after = seq;
        self
    }

    /// The same without the rows of these sessions.
    #[must_use]
    pub const fn without(mut self, blocked: &'a [String]) -> Self {
        self.blocked = blocked;
        self
    }

    /// The same without these rows.
    #[must_use]
    pub const fn except(mut self, seqs: &'a [i64]) -> Self {
        self.except = seqs;
        self
    }
}

/// A pending row of the inbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InboxRow {
    /// Its place in the inbox.
    pub seq: i64,
    /// The event.
    pub event: IncomingEvent,
    /// Attempts recorded so far.
    pub attempts: u32,
    /// How long until the next attempt is due, by the database's clock; zero when it is.
    pub due_in: Duration,
    /// Whether its time to live is over, by the database's clock.
    pub expired: bool,
    /// How long ago it was published, by the database's clock, where the message says when.
    pub age: Option<Duration>,
    /// When it was received, by the database's clock.
    pub received_at: SystemTime,
    /// Why it can't be read: something else has written to the table. The event has what could be.
    pub unreadable: Option<String>,
}

impl InboxRow {
    /// A row as an adapter read it.
    #[must_use]
    pub const fn new(seq: i64, event: IncomingEvent, received_at: SystemTime) -> Self {
        let due_in = Duration::ZERO;
        Self { seq, event, attempts: 0, due_in, expired: false, age: None, received_at, unreadable: None }
    }

    /// A row of which only this could be read, and why.
    #[must_use]
    pub fn unreadable(seq: i64, id: EventId, session_id: Option<String>, reason: String) -> Self {
        let event =
            IncomingEvent { session_id, ..IncomingEvent::new(id, "(unreadable)", Body::Text(String::new())) };
        Self { unreadable: Some(reason), ..Self::new(seq, event, SystemTime::UNIX_EPOCH) }
    }
}

/// What the guard found when the handlers had returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardOutcome {
    /// The transaction is alive and whole: commit it.
    Whole,
    /// The transaction is alive but can't be committed: roll it back, a failed attempt.
    Broken,
    /// The transaction had ended before: what followed may be durable (rule 9).
    Ended,
}

/// The record of one attempt at an inbox row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The row.
    pub seq: i64,
    /// The lease under which the handlers ran.
    pub fence: &'a Fence,
    /// How the attempts change: 1 for a handler's failure, 0 for one that was counted before or is not its own, -1 to
    /// take back one counted before the handler.
    pub count: i32,
    /// What becomes of the row.
    pub verdict: Verdict,
    /// Why, for `last_error`; `None` leaves it as it is.
    pub error: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    /// A record that changes nothing but what the verdict says.
    #[must_use]
    pub const fn new(seq: i64, fence: &'a Fence, verdict: Verdict) -> Self {
        Self { seq, fence, count: 0, verdict, error: None }
    }

    /// The same with a change of the attempts.
    #[must_use]
    pub const fn counting(mut self, count: i32) -> Self {
        self.count = count;
        self
    }

    /// The same with a reason.
    #[must_use]
    pub const fn because(mut self, error: &'a str) -> Self {
        self.error = Some(error);
        self
    }
}

/// What becomes of a row after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stays pending; the next attempt is due after so long.
    Retry(Duration),
    /// Ends dead, if it is pending.
    Dead,
    /// Ends dead whether it is pending or already marked as processed: its handler ended the transaction (rule 9).
    /// Not fenced, since what happened is a fact.
    DeadAfterEnd,
}

/// What retention deletes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Retention {
    /// Sent outbox rows older than this, by their `processed_at`.
    Outbox {
        /// Age.
        older_than: Duration,
        /// At most so many rows.
        limit: u32,
    },
    /// Bodies of processed and discarded inbox rows; their keys stay.
    InboxBodies {
        /// Age.
        older_than: Duration,
        /// At most so many rows.
        limit: u32,
    },
    /// Processed inbox rows whole, once past the dedupe horizon. Dead rows never expire; discarded ones keep their key.
    InboxRows {
        /// Age.
        older_than: Duration,
        /// At most so many rows.
        limit: u32,
    },
}
