//! The storage port: what a database must do for the outbox and the inbox, in the order of an event's life.
//!
//! A database takes part by implementing [`Storage`] (the walk of an event), [`LeaseStorage`] (sharing work among
//! instances) and [`AdminStorage`] (what operators ask) on sqlx's marker type. All compared times are computed by the
//! row's database (SEMANTICS.md, rule 29), so durations go in and no instant does.

mod admin;
mod commit_order;
mod connections;
mod error;
mod hints;
mod inbox_store;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod ingesting;
mod lease;
#[cfg(feature = "mysql")]
pub mod mysql;
mod operator;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod row_reading;
mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use sqlx::{Pool, Transaction};

pub use admin::{AdminStorage, DeadRow, DeadRowFilter, InboxCounts, OutboxCounts, StateCounts, Table};
pub use commit_order::{Behind, CommitOrder};
pub use connections::{Connections, Reader, Writer};
pub use error::{StorageError, Trouble};
pub use hints::{Hint, HintStorage};
pub use inbox_store::{InboxStore, LocalStorage, LocalSubscription, OwedEvent, PoolInbox};
pub use lease::{Fence, Handled, Instance, LeaseStorage, TakenLease};
pub use operator::{
    InstanceStatus, LeaseStatus, NotACursor, OperatorStorage, RelatedRow, RowCursor, RowDetail, RowFilter,
    RowState, RowSummary, Throughput,
};
pub use rows::{
    Attempt, Body, GuardOutcome, InboxQuery, InboxRow, IncomingEvent, IngestReport, OutboxQuery, OutboxRow,
    Retention, SentRows, Verdict,
};

use crate::envelope::{Envelope, EventId};

/// The number of shards of every subscription's inbox; a part of the schema.
pub const SHARDS: u8 = 64;

/// The shard of a session, or of an event without one: FNV-1a (64 bit) of the text's UTF-8 bytes, its two halves
/// folded by exclusive or, modulo [`SHARDS`]. A part of the schema, with test vectors.
///
/// ```
/// assert_eq!(distributed_events::storage::shard_of(""), 1);
/// assert_eq!(distributed_events::storage::shard_of("order-1"), 50);
/// ```
#[must_use]
pub fn shard_of(key: &str) -> u8 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    (folded % u64::from(SHARDS)) as u8
}

/// How the library's own connections are opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolSettings {
    /// How many connections the library opens beside the user's pool.
    pub connections: u32,
    /// How long a statement may wait for another's lock.
    pub busy_timeout: Duration,
}

impl PoolSettings {
    /// So many connections, each waiting so long for a lock.
    #[must_use]
    pub const fn new(connections: u32, busy_timeout: Duration) -> Self {
        Self { connections, busy_timeout }
    }
}

/// The walk of an event through a database: into the outbox, out of it, into the inbox, through its handlers.
///
/// Methods take a connection and leave it as they found it: those that need a transaction of their own open and end
/// it; those documented as "in the caller's transaction" never do.
pub trait Storage: LeaseStorage + AdminStorage + LocalStorage + HintStorage {
    /// The statement that opens a transaction that will write.
    const BEGIN: &'static str;

    /// How long a handler may run where its attribute says nothing.
    const DEFAULT_HANDLER_TIMEOUT: Duration;

    /// Whether one writer at a time holds the whole database, so that leases wait behind handlers (rule 31).
    const SINGLE_WRITER: bool;

    /// Whether giving a connection back to the pool of [`open`](Self::open) leaves its session as it is, so that one task may
    /// as well keep it from one use to the next.
    const KEEPS_SESSIONS: bool;

    /// A point in the database's transaction order, for deciding whether a missing sequence number is gone for good
    /// (rule 2).
    type Horizon: Clone + Debug + Send + Sync + 'static;

    /// Opens the library's own small pool beside the user's, from its connect options (rule 28).
    ///
    /// Databases that live in the user's one connection (in-memory SQLite) share the given pool.
    fn open(
        pool: &Pool<Self>,
        settings: &PoolSettings,
    ) -> impl Future<Output = Result<Pool<Self>, StorageError>> + Send;

    /// A name of the database that two processes on one machine agree on, free of secrets (rule 27).
    fn identity(pool: &Pool<Self>) -> String;

    /// Whether the data dies with the pool's connections (in-memory SQLite), so that none may be closed.
    fn is_ephemeral(pool: &Pool<Self>) -> bool {
        let _unused = pool;
        false
    }

    /// Creates the library's tables or brings them up to date; safe when several processes do it at once (rule 22).
    fn migrate(pool: &Pool<Self>) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Checks the tables' version and the settings that durability rests on; returns what to warn of.
    fn check(conn: &mut Self::Connection) -> impl Future<Output = Result<Vec<String>, StorageError>> + Send;

    /// Writes events to the outbox in the caller's transaction, in the given order, with one statement;
    /// `deliver_in` and `expires_in` count from the database's now.
    fn insert_outbox(
        conn: &mut Self::Connection,
        events: &[NewEvent],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Reads pending outbox rows of one lane by sequence number: those that were never delayed, or those whose delay
    /// is over.
    fn read_outbox(
        conn: &mut Self::Connection,
        query: &OutboxQuery<'_>,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StorageError>> + Send;

    /// Marks rows as sent, by id, where they are still pending; returns how many were. May commit asynchronously
    /// (rule 25).
    fn mark_sent(
        conn: &mut Self::Connection,
        ids: &[EventId],
        keep: SentRows,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// Ends a pending outbox row as dead, with the reason.
    fn mark_outbox_dead(
        conn: &mut Self::Connection,
        id: EventId,
        reason: &str,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// The present point in the transaction order; taken after a read that saw a gap.
    fn horizon(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Self::Horizon, StorageError>> + Send;

    /// Whether every transaction that was open at the horizon has ended; the horizon keeps what was learned meanwhile.
    fn has_passed(
        conn: &mut Self::Connection,
        horizon: &mut Self::Horizon,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Stores received events in one durable transaction, in the given order, ignoring those already there (rules 14
    /// and 17). Inserts and commits when its order lets it.
    fn ingest_in_order(
        conn: &mut Self::Connection,
        subscription: &str,
        events: &[IncomingEvent],
        order: &mut CommitOrder,
    ) -> impl Future<Output = Result<IngestReport, StorageError>> + Send;

    /// The same for a batch that has no other beside it.
    fn ingest(
        conn: &mut Self::Connection,
        subscription: &str,
        events: &[IncomingEvent],
    ) -> impl Future<Output = Result<IngestReport, StorageError>> + Send {
        async move { Self::ingest_in_order(conn, subscription, events, &mut CommitOrder::default()).await }
    }

    /// Which of the shards have pending rows above their watermarks; the answer costs an index seek a shard.
    fn ready_shards(
        conn: &mut Self::Connection,
        subscription: &str,
        shards: &[(u8, i64)],
    ) -> impl Future<Output = Result<Vec<u8>, StorageError>> + Send;

    /// Reads pending inbox rows of one shard by sequence number, leaving out those of blocked sessions (rule 5).
    fn read_inbox(
        conn: &mut Self::Connection,
        query: &InboxQuery<'_>,
    ) -> impl Future<Output = Result<Vec<InboxRow>, StorageError>> + Send;

    /// Opens a handler's transaction and its guard (rule 8), with the timeouts that end an endless statement and free a
    /// frozen holder's locks (rule 10); [`Duration::MAX`] sets none.
    fn begin_guarded(
        conn: &mut Self::Connection,
        timeout: Duration,
    ) -> impl Future<Output = Result<Transaction<'_, Self>, StorageError>> + Send;

    /// Marks pending inbox rows as processed in the caller's transaction, whose commit waits for the disk from then on where
    /// that is for a session to decide (rule 17); returns how many were pending.
    fn mark_processed(
        conn: &mut Self::Connection,
        seqs: &[i64],
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// Closes the guard and says whether the transaction it was opened in, which marked these rows, is still alive and
    /// whole (rules 8 and 9).
    fn close_guard(
        conn: &mut Self::Connection,
        marked: &[i64],
    ) -> impl Future<Output = Result<GuardOutcome, StorageError>> + Send;

    /// Records what became of a handler's attempt, fenced by the lease under which it ran (rule 4); `false` when the
    /// row or the lease is no longer ours.
    fn record_attempt(
        conn: &mut Self::Connection,
        attempt: &Attempt<'_>,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;

    /// Lets a session that keeps the plans of its statements make them anew at their next use.
    ///
    /// A plan for a small table goes through all of it, and may be kept while the table grows a thousandfold. Called once
    /// a second at most on connections that are in use, outside a transaction.
    fn forget_plans(conn: &mut Self::Connection) -> impl Future<Output = Result<(), StorageError>> + Send {
        let _unused = conn;
        std::future::ready(Ok(()))
    }

    /// Whether a database error passes by itself, in which case no attempt is counted (rule 11).
    fn trouble(error: &sqlx::Error) -> Trouble;

    /// Whether a bus that starts waits until this error passes: a server may be on its way, as one is that is started
    /// together with the service.
    fn is_awaited(error: &sqlx::Error) -> bool {
        Self::trouble(error) == Trouble::Passing
    }

    /// Deletes one slice of what retention no longer keeps; returns how many rows went.
    fn purge(
        conn: &mut Self::Connection,
        retention: &Retention,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;
}

/// An event as `publish` writes it: an envelope whose times are still relative to the database's clock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewEvent {
    /// Identity, routing and body; its three times are ignored.
    pub envelope: Envelope,
    /// Deliver so much later, or at a given time.
    pub deliver: Delivery,
    /// Expires so long after it was created.
    pub ttl: Option<Duration>,
    /// Whether its id was made for it just now, so that nothing can have it already; any other may be a repetition.
    pub is_fresh: bool,
}

impl NewEvent {
    /// An event to be delivered as soon as it is committed, whose id may be there already.
    #[must_use]
    pub const fn new(envelope: Envelope) -> Self {
        Self { envelope, deliver: Delivery::Now, ttl: None, is_fresh: false }
    }

    /// Whether it needs nothing but its row: neither a time that the database computes nor a look for its id.
    #[cfg(feature = "postgres")]
    pub(crate) const fn is_plain(&self) -> bool {
        self.is_fresh && self.ttl.is_none() && matches!(self.deliver, Delivery::Now)
    }
}

/// When an event may be delivered at the earliest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// As soon as it is committed.
    #[default]
    Now,
    /// So much later, by the database's clock.
    In(Duration),
    /// At that time, by the database's clock.
    At(std::time::SystemTime),
}
