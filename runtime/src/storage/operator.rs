//! What operators ask beside the counts: rows by what is known of them, who holds what, how fast it goes.
//!
//! Open rows (pending, delayed, dead) are read by their own indexes. Settled rows are retained history, so they are read
//! as a range of time, and no statement reads more of it than was asked for. All instants are by the database's clock:
//! [`OperatorStorage::clock`] tells it.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{Instance, Storage, StorageError, Table};
use crate::envelope::EventId;

/// The states in which rows can be listed. A discarded inbox row keeps nothing but its key and is found by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RowState {
    /// Waits to be sent or handled; in the order of its lane, or of its subscription's shards.
    Pending,
    /// An outbox row whose time has not come, or had to come first; in the order of these times.
    Delayed,
    /// Ended dead; in the order of the table.
    #[default]
    Dead,
    /// Sent (outbox) or processed (inbox); the latest first.
    Settled,
}

/// Which rows to list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RowFilter {
    /// In this state.
    pub state: RowState,
    /// Only of this lane (outbox) or subscription (inbox).
    pub owner: Option<String>,
    /// Only this event name.
    pub event: Option<String>,
    /// Only this session.
    pub session: Option<String>,
    /// Only rows whose last error has this text in it, as it is written.
    pub error: Option<String>,
    /// Only rows that were written (settled rows: settled) at that time or later. Settled rows are looked for as far back
    /// as this says, so that it decides how much of what is retained is read.
    pub since: SystemTime,
    /// Only rows from before that time.
    pub until: Option<SystemTime>,
    /// Rows that come after this one, for paging.
    pub after: Option<RowCursor>,
    /// At most so many.
    pub limit: u32,
}

impl RowFilter {
    /// The first 100 rows in a state that were written at that time or later; settled ones: settled.
    #[must_use]
    pub const fn new(state: RowState, since: SystemTime) -> Self {
        Self {
            state,
            owner: None,
            event: None,
            session: None,
            error: None,
            since,
            until: None,
            after: None,
            limit: 100,
        }
    }

    /// The first 100 rows in a state, whenever they were written. Not for settled ones, which are retained history.
    #[must_use]
    pub fn whenever(state: RowState) -> Self {
        // Something else may have written a time before 1970, and every database has one for this.
        const LONG_AGO: Duration = Duration::from_secs(100 * 365 * 86_400);
        Self::new(state, SystemTime::UNIX_EPOCH.checked_sub(LONG_AGO).unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

/// A row's place in a list, for the page after it. Its text form is short and can be given back.
///
/// ```
/// use distributed_events::admin::RowCursor;
///
/// let cursor: RowCursor = "3:17:billing".parse()?;
/// assert_eq!(cursor.to_string(), "3:17:billing");
/// # Ok::<(), distributed_events::admin::NotACursor>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCursor {
    /// What the list is ordered by before anything else.
    pub(crate) owner: String,
    /// And then: a shard, or a time in milliseconds.
    pub(crate) rank: i64,
    pub(crate) seq: i64,
}

impl fmt::Display for RowCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.rank, self.seq, self.owner)
    }
}

/// A text that no list has given as a row's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in a list: take the one that the page before ended with")]
pub struct NotACursor;

impl FromStr for RowCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(NotACursor);
        let (rank, seq) = (number()?, number()?);
        let owner = parts.next().ok_or(NotACursor)?.to_owned();
        Ok(Self { owner, rank, seq })
    }
}

/// A row as a list shows it, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowSummary {
    /// Its place in the table.
    pub seq: i64,
    /// The event's id.
    pub id: EventId,
    /// The subscription (inbox) or lane (outbox).
    pub owner: String,
    /// The event's name.
    pub event: String,
    /// Its version.
    pub version: u32,
    /// Its session.
    pub session_id: Option<String>,
    /// Its state, as the table has it.
    pub state: String,
    /// Attempts made.
    pub attempts: u32,
    /// When it was written.
    pub written_at: SystemTime,
    /// When it was sent, processed, discarded, or ended dead.
    pub settled_at: Option<SystemTime>,
    /// Not before this it is sent, or tried again.
    pub due_at: Option<SystemTime>,
    /// What went wrong last; the first 2,000 characters.
    pub error: Option<String>,
    /// Its place in the list.
    pub cursor: RowCursor,
    /// Why it can't be read, column by column: something else has written to the table. What stands beside it here is what
    /// could be read; an id that could not is nil.
    pub unreadable: Option<String>,
}

impl RowSummary {
    /// What an operator is told of a row that can't be read: why, and what to do about it.
    #[must_use]
    pub fn trouble(&self, table: Table) -> Option<String> {
        let reason = self.unreadable.as_ref()?;
        let (table, seq) = (table.name(), self.seq);
        Some(format!("can't be read: {reason}; mend it by SQL, or delete it: table {table}, seq {seq}"))
    }

    /// Its id, where it could be read.
    #[must_use]
    pub fn known_id(&self) -> Option<EventId> {
        let is_unknown = self.unreadable.is_some() && self.id.as_uuid().is_nil();
        (!is_unknown).then_some(self.id)
    }
}

/// A row with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowDetail {
    /// What a list shows of it, with the whole of its last error.
    pub summary: RowSummary,
    /// The message id as the wire had it (inbox).
    pub message_id: Option<String>,
    /// Its topic; none in the outbox: the relay's default.
    pub topic: Option<String>,
    /// Correlation id.
    pub correlation_id: Option<String>,
    /// Causation id.
    pub causation_id: Option<String>,
    /// Its headers, the JSON text that the table has.
    pub headers: String,
    /// When it was published, where that is known (inbox).
    pub published_at: Option<SystemTime>,
    /// After this nobody starts on it.
    pub expires_at: Option<SystemTime>,
    /// Its bytes; none where retention has taken them.
    pub data: Option<Vec<u8>>,
}

/// A lease, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatus {
    /// `outbox:LANE` or `inbox:SUBSCRIPTION:SHARD`.
    pub name: String,
    /// The holder's token, fresh at every taking; none where it was given back.
    pub owner: Option<Uuid>,
    /// Counts the takings.
    pub epoch: i64,
    /// How long it lasts, by the database's clock; none where it is free or has run out.
    pub remaining: Option<Duration>,
    /// Whether the holder before this one never gave it back.
    pub unclean: bool,
    /// Of a lane: the broker that it is bound to.
    pub broker: Option<String>,
}

/// A live instance, and how long its announcement lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Its id and what it handles.
    pub instance: Instance,
    /// How long it counts as alive if it isn't heard of again.
    pub remaining: Duration,
}

/// How much was sent or processed in a span of time, and how long it had waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Throughput {
    /// Rows that were sent (outbox) or processed (inbox), as far as they were counted.
    pub settled: u64,
    /// When the last one that was counted was settled, where the count has come to its limit.
    pub reached: Option<SystemTime>,
    /// How long the last 100 of them had waited, on average: since they were written, or due.
    pub mean_lag: Option<Duration>,
    /// And the longest of these waits.
    pub longest_lag: Option<Duration>,
}

/// An event of a chain, as one of the tables has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelatedRow {
    /// What a list shows of it.
    pub summary: RowSummary,
    /// The event that caused it.
    pub causation_id: Option<String>,
}

/// What operators ask of a database that has a command line and a dashboard.
pub trait OperatorStorage: Storage {
    /// The SQL that [`Storage::migrate`] runs on an empty database, for a team's own tool, with the rows by which the
    /// library knows what has been applied.
    fn migration_sql() -> String;

    /// The database's clock.
    fn clock(conn: &mut Self::Connection) -> impl Future<Output = Result<SystemTime, StorageError>> + Send;

    /// A page of rows without their bodies.
    fn list_rows(
        conn: &mut Self::Connection,
        table: Table,
        filter: &RowFilter,
    ) -> impl Future<Output = Result<Vec<RowSummary>, StorageError>> + Send;

    /// An outbox row in full.
    fn outbox_row(
        conn: &mut Self::Connection,
        id: EventId,
    ) -> impl Future<Output = Result<Option<RowDetail>, StorageError>> + Send;

    /// An inbox row in full.
    fn inbox_row(
        conn: &mut Self::Connection,
        subscription: &str,
        id: EventId,
    ) -> impl Future<Output = Result<Option<RowDetail>, StorageError>> + Send;

    /// The subscription that comes after this text among those that the inbox has a row of: an index seek, however many
    /// rows there are.
    fn next_subscription(
        conn: &mut Self::Connection,
        after: &str,
    ) -> impl Future<Output = Result<Option<String>, StorageError>> + Send;

    /// All leases, by name.
    fn lease_statuses(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<LeaseStatus>, StorageError>> + Send;

    /// The instances that live, by id.
    fn live_instances(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<InstanceStatus>, StorageError>> + Send;

    /// What was settled from `since` until before `until`: at most so many are counted, from the earliest on, along the
    /// index.
    fn throughput(
        conn: &mut Self::Connection,
        table: Table,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> impl Future<Output = Result<Throughput, StorageError>> + Send;

    /// Rows of one correlation, which no index knows: among those settled from `since` until before `until`, and among the
    /// open ones, at most so many of each state are looked at, whatever they are.
    fn related(
        conn: &mut Self::Connection,
        table: Table,
        correlation_id: &str,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> impl Future<Output = Result<Vec<RelatedRow>, StorageError>> + Send;

    /// Makes rows pending again that were sent from `since` until before `until`, of one event or of all, in their old
    /// places; returns how many.
    fn resend_between(
        conn: &mut Self::Connection,
        since: SystemTime,
        until: SystemTime,
        event: Option<&str>,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// Makes processed inbox rows pending again that still have their bodies, so that their handlers run once more;
    /// returns how many.
    fn replay(
        conn: &mut Self::Connection,
        seqs: &[i64],
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;
}

/// The place before every row of a list, or after all where it begins with the latest.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn start_of(filter: &RowFilter) -> RowCursor {
    if let Some(cursor) = &filter.after {
        return cursor.clone();
    }
    match filter.state {
        RowState::Settled => {
            let until =
                filter.until.map(|until| until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
            let rank = until.and_then(|until| i64::try_from(until.as_millis()).ok()).unwrap_or(LATEST);
            RowCursor { owner: String::new(), rank: rank.min(LATEST), seq: i64::MAX }
        }
        _ => RowCursor { owner: filter.owner.clone().unwrap_or_default(), rank: -LATEST, seq: -1 },
    }
}

/// Milliseconds that every database's times can hold, far from now on both sides.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) const LATEST: i64 = 1 << 46;

/// What no name of a lane or subscription comes after.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) const LAST_NAME: &str = "\u{10ffff}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_as_text() {
        for (owner, rank) in [("billing", 3), ("", -5), ("a:b:c", i64::MAX)] {
            let cursor = RowCursor { owner: owner.to_owned(), rank, seq: 7 };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "1", "1:2", "x:2:billing"] {
            assert_eq!(text.parse::<RowCursor>(), Err(NotACursor), "{text}");
        }
    }
}
