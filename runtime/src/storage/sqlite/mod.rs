//! The storage port on SQLite: one file, one writer at a time, no server.
//!
//! Everything that writes takes the write lock at its beginning (`BEGIN IMMEDIATE`), because a transaction that reads
//! first and writes later can't wait for another writer: it fails. Statuses are literals and the indexes of open rows are
//! named (`INDEXED BY`), so that no statistics can ever turn a loop's read into a scan of what retention keeps.

/// The database's clock in milliseconds; within one statement it stands still.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

mod admin;
mod guard;
mod inbox;
mod ingest;
mod lease;
mod local;
mod migrate;
mod operator;
mod operator_rows;
mod outbox;
#[cfg(test)]
mod plan_tests;
mod pool;
mod related;
mod row;

use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Pool, SqlSafeStr, Sqlite, SqliteConnection, Transaction};
use uuid::Uuid;

use super::{
    AdminStorage, Attempt, CommitOrder, DeadRow, DeadRowFilter, Fence, GuardOutcome, HintStorage,
    InboxCounts, InboxQuery, InboxRow, IncomingEvent, IngestReport, Instance, LeaseStorage, LocalStorage,
    LocalSubscription, NewEvent, OutboxCounts, OutboxQuery, OutboxRow, OwedEvent, PoolSettings, Retention,
    SentRows, Storage, StorageError, Table, TakenLease, Trouble,
};
use crate::envelope::EventId;
use pool::named;

/// A query; in a simulation, with the simulated time in it.
fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Sqlite, SqliteArguments> {
    #[cfg(feature = "testing")]
    if let Some(now) = crate::simulated::now() {
        let sql = sql.into_sql_str().as_str().replace(now!(), &now.to_string());
        return sqlx::query(sqlx::AssertSqlSafe(sql));
    }
    sqlx::query(sql)
}

impl Storage for Sqlite {
    const BEGIN: &'static str = pool::BEGIN;

    const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(5);

    const SINGLE_WRITER: bool = true;

    const KEEPS_SESSIONS: bool = false;

    /// One writer at a time: a sequence number that is missing from a read belongs to no open transaction.
    type Horizon = ();

    async fn open(pool: &Pool<Self>, settings: &PoolSettings) -> Result<Pool<Self>, StorageError> {
        pool::open(pool, settings).await
    }

    fn identity(pool: &Pool<Self>) -> String {
        pool::identity(&pool.connect_options())
    }

    fn is_ephemeral(pool: &Pool<Self>) -> bool {
        pool::is_memory(&pool.connect_options())
    }

    async fn migrate(pool: &Pool<Self>) -> Result<(), StorageError> {
        migrate::migrate(pool).await
    }

    async fn check(conn: &mut SqliteConnection) -> Result<Vec<String>, StorageError> {
        let result = migrate::check(conn).await;
        named(conn, result).await
    }

    async fn insert_outbox(conn: &mut SqliteConnection, events: &[NewEvent]) -> Result<(), StorageError> {
        let result = outbox::insert(conn, events).await;
        named(conn, result).await
    }

    async fn read_outbox(
        conn: &mut SqliteConnection,
        query: &OutboxQuery<'_>,
    ) -> Result<Vec<OutboxRow>, StorageError> {
        let result = outbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn mark_sent(
        conn: &mut SqliteConnection,
        ids: &[EventId],
        keep: SentRows,
    ) -> Result<u64, StorageError> {
        let result = outbox::mark_sent(conn, ids, keep).await;
        named(conn, result).await
    }

    async fn mark_outbox_dead(
        conn: &mut SqliteConnection,
        id: EventId,
        reason: &str,
    ) -> Result<bool, StorageError> {
        let result = outbox::mark_dead(conn, id, reason).await;
        named(conn, result).await
    }

    async fn horizon(_conn: &mut SqliteConnection) -> Result<(), StorageError> {
        Ok(())
    }

    async fn has_passed(_conn: &mut SqliteConnection, _horizon: &mut ()) -> Result<bool, StorageError> {
        Ok(true)
    }

    async fn ingest_in_order(
        conn: &mut SqliteConnection,
        subscription: &str,
        events: &[IncomingEvent],
        order: &mut CommitOrder,
    ) -> Result<IngestReport, StorageError> {
        let result = ingest::ingest(conn, subscription, events, order).await;
        named(conn, result).await
    }

    async fn ready_shards(
        conn: &mut SqliteConnection,
        subscription: &str,
        shards: &[(u8, i64)],
    ) -> Result<Vec<u8>, StorageError> {
        let result = inbox::ready_shards(conn, subscription, shards).await;
        named(conn, result).await
    }

    async fn read_inbox(
        conn: &mut SqliteConnection,
        query: &InboxQuery<'_>,
    ) -> Result<Vec<InboxRow>, StorageError> {
        let result = inbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn begin_guarded(
        conn: &mut SqliteConnection,
        timeout: Duration,
    ) -> Result<Transaction<'_, Self>, StorageError> {
        guard::begin(conn, timeout).await
    }

    async fn mark_processed(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let result = inbox::mark_processed(conn, seqs).await;
        named(conn, result).await
    }

    async fn close_guard(conn: &mut SqliteConnection, _marked: &[i64]) -> Result<GuardOutcome, StorageError> {
        guard::close(conn).await
    }

    async fn record_attempt(
        conn: &mut SqliteConnection,
        attempt: &Attempt<'_>,
    ) -> Result<bool, StorageError> {
        let result = inbox::record_attempt(conn, attempt).await;
        named(conn, result).await
    }

    fn trouble(error: &sqlx::Error) -> Trouble {
        pool::trouble(error)
    }

    /// A file is there or it isn't, but another may hold its lock for a while.
    fn is_awaited(error: &sqlx::Error) -> bool {
        pool::is_locked(error)
    }

    async fn purge(conn: &mut SqliteConnection, retention: &Retention) -> Result<u64, StorageError> {
        let result = admin::purge(conn, retention).await;
        named(conn, result).await
    }
}

/// SQLite carries no hints: other processes look.
impl HintStorage for Sqlite {}

impl LeaseStorage for Sqlite {
    async fn take_leases(
        conn: &mut SqliteConnection,
        names: &[String],
        owner: Uuid,
        limit: u32,
        time: Duration,
    ) -> Result<Vec<TakenLease>, StorageError> {
        let result = lease::take(conn, names, owner, limit, time).await;
        named(conn, result).await
    }

    async fn renew_leases(
        conn: &mut SqliteConnection,
        fences: &[Fence],
        time: Duration,
    ) -> Result<Vec<String>, StorageError> {
        let result = lease::renew(conn, fences, time).await;
        named(conn, result).await
    }

    async fn release_leases(conn: &mut SqliteConnection, fences: &[Fence]) -> Result<(), StorageError> {
        let result = lease::release(conn, fences).await;
        named(conn, result).await
    }

    async fn bind_lane(
        conn: &mut SqliteConnection,
        lane: &str,
        broker: &str,
    ) -> Result<String, StorageError> {
        let result = lease::bind_lane(conn, lane, broker).await;
        named(conn, result).await
    }

    async fn announce(
        conn: &mut SqliteConnection,
        instance: &Instance,
        time: Duration,
    ) -> Result<Vec<Instance>, StorageError> {
        let result = lease::announce(conn, instance, time).await;
        named(conn, result).await
    }

    async fn retire(conn: &mut SqliteConnection, instance: Uuid) -> Result<(), StorageError> {
        let result = lease::retire(conn, instance).await;
        named(conn, result).await
    }
}

impl AdminStorage for Sqlite {
    async fn count_outbox(conn: &mut SqliteConnection) -> Result<OutboxCounts, StorageError> {
        let result = admin::count_outbox(conn).await;
        named(conn, result).await
    }

    async fn count_inbox(conn: &mut SqliteConnection) -> Result<InboxCounts, StorageError> {
        let result = admin::count_inbox(conn).await;
        named(conn, result).await
    }

    async fn dead_rows(
        conn: &mut SqliteConnection,
        table: Table,
        filter: &DeadRowFilter,
    ) -> Result<Vec<DeadRow>, StorageError> {
        let result = admin::dead_rows(conn, table, filter).await;
        named(conn, result).await
    }

    async fn requeue(
        conn: &mut SqliteConnection,
        table: Table,
        seqs: &[i64],
        delay: Duration,
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::requeue(conn, table, seqs, delay, note).await;
        named(conn, result).await
    }

    async fn resend(
        conn: &mut SqliteConnection,
        within: Duration,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::resend(conn, within, event).await;
        named(conn, result).await
    }

    async fn discard(
        conn: &mut SqliteConnection,
        table: Table,
        seqs: &[i64],
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::discard(conn, table, seqs, note).await;
        named(conn, result).await
    }
}

impl LocalStorage for Sqlite {
    async fn record_subscriptions(
        conn: &mut SqliteConnection,
        store: &str,
        subscriptions: &[LocalSubscription],
    ) -> Result<(), StorageError> {
        let result = local::record_subscriptions(conn, store, subscriptions).await;
        named(conn, result).await
    }

    async fn subscriptions(conn: &mut SqliteConnection) -> Result<Vec<LocalSubscription>, StorageError> {
        let result = local::subscriptions(conn).await;
        named(conn, result).await
    }

    async fn forget_subscription(
        conn: &mut SqliteConnection,
        store: &str,
        name: &str,
    ) -> Result<u64, StorageError> {
        let result = local::forget_subscription(conn, store, name).await;
        named(conn, result).await
    }

    async fn owe(
        conn: &mut SqliteConnection,
        store: &str,
        subscription: &str,
        events: &[IncomingEvent],
    ) -> Result<(), StorageError> {
        let result = local::owe(conn, store, subscription, events).await;
        named(conn, result).await
    }

    async fn owed(
        conn: &mut SqliteConnection,
        store: &str,
        limit: u32,
    ) -> Result<Vec<OwedEvent>, StorageError> {
        let result = local::owed(conn, store, limit).await;
        named(conn, result).await
    }

    async fn paid(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<(), StorageError> {
        let result = local::paid(conn, seqs).await;
        named(conn, result).await
    }
}
