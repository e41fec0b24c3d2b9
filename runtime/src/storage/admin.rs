//! What operators ask of the tables. Nothing here scans retained history.

use std::future::Future;
use std::time::{Duration, SystemTime};

use sqlx::Database;

use super::StorageError;
use crate::envelope::EventId;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// The outbox.
    Outbox,
    /// The inbox.
    Inbox,
}

impl Table {
    /// Its name in every database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Inbox => "inbox",
        }
    }
}

/// Rows by state, as far as that can be told from the indexes of open rows, and the age of the oldest pending one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateCounts {
    /// Rows that wait.
    pub pending: u64,
    /// Rows that ended dead.
    pub dead: u64,
    /// How long the oldest pending row has waited, by the database's clock.
    pub oldest_pending: Option<Duration>,
}

/// Counts of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxCounts {
    /// By lane.
    pub lanes: std::collections::BTreeMap<String, StateCounts>,
    /// Events sent but still owed to a local subscription whose store is down, by subscription (rule 27).
    pub owed: std::collections::BTreeMap<String, u64>,
}

/// Counts of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxCounts {
    /// By subscription.
    pub subscriptions: std::collections::BTreeMap<String, StateCounts>,
}

/// Which dead rows to list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadRowFilter {
    /// Only this event name.
    pub event: Option<String>,
    /// Only this subscription (inbox) or lane (outbox).
    pub owner: Option<String>,
    /// Rows after this sequence number, for paging.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

impl Default for DeadRowFilter {
    fn default() -> Self {
        Self { event: None, owner: None, after: 0, limit: 100 }
    }
}

/// A dead row with its bytes and its reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadRow {
    /// Its place in the table.
    pub seq: i64,
    /// The event's id.
    pub id: EventId,
    /// The subscription (inbox) or lane (outbox).
    pub owner: String,
    /// The event's name.
    pub event: String,
    /// Its session.
    pub session_id: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// Why it is dead.
    pub reason: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// When it was written.
    pub created_at: SystemTime,
    /// Why it can't be read: something else has written to the table. The rest is what could be; an id that could not is
    /// nil.
    pub unreadable: Option<String>,
}

impl DeadRow {
    /// A row as an adapter read it.
    #[must_use]
    pub fn new(seq: i64, id: EventId, owner: String, event: String) -> Self {
        Self {
            seq,
            id,
            owner,
            event,
            session_id: None,
            attempts: 0,
            reason: String::new(),
            data: Vec::new(),
            created_at: SystemTime::UNIX_EPOCH,
            unreadable: None,
        }
    }
}

/// What operators ask and do.
pub trait AdminStorage: Database {
    /// Counts the outbox.
    fn count_outbox(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<OutboxCounts, StorageError>> + Send;

    /// Counts the inbox.
    fn count_inbox(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<InboxCounts, StorageError>> + Send;

    /// Lists dead rows by sequence number.
    fn dead_rows(
        conn: &mut Self::Connection,
        table: Table,
        filter: &DeadRowFilter,
    ) -> impl Future<Output = Result<Vec<DeadRow>, StorageError>> + Send;

    /// Makes dead rows pending again, with no attempts counted, due after `delay`; returns how many were dead.
    /// They keep their sequence numbers, so within their session they step out of order (rule 1). A note is added to
    /// their last error, as a line of its own.
    fn requeue(
        conn: &mut Self::Connection,
        table: Table,
        seqs: &[i64],
        delay: Duration,
        note: Option<&str>,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// Makes rows pending again that were sent within the last `within`, of one event or of all; returns how many.
    fn resend(
        conn: &mut Self::Connection,
        within: Duration,
        event: Option<&str>,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// Gives dead rows up: an inbox row becomes `discarded` and keeps its key (rule 15); an outbox row, whose key
    /// nothing needs, is deleted. Returns how many were dead. A note is added to the last error of what is kept.
    fn discard(
        conn: &mut Self::Connection,
        table: Table,
        seqs: &[i64],
        note: Option<&str>,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;
}
