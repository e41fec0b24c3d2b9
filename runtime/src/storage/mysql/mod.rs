//! The storage port on MariaDB and MySQL.
//!
//! Tested on MariaDB 10.11 and written for MySQL 8.0.19 and newer too, on which it has not been run. Where the two differ,
//! the SQL says so in comments that only one of them executes: MariaDB those that begin with `M!`, MySQL those that begin
//! with a version.
//!
//! What the promises rest on is set on the library's own connections: READ COMMITTED (under REPEATABLE READ a relay's
//! locks would stop publishers), a strict SQL mode (no value is cut off silently), utf8mb4. Handlers run with autocommit
//! off, because a deadlock rolls back their whole transaction and DDL commits it, and with autocommit on whatever follows
//! either would be durable at once.
//!
//! One way of losing a transaction goes unseen: a handler that rolls back by a statement of its own, writes, and commits by
//! a statement of its own is run again, although what it wrote is there.

/// The database's clock in milliseconds; within one statement it stands still. Whatever the session's time zone is.
macro_rules! now {
    () => {
        "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
    };
}

mod admin;
mod guard;
mod horizon;
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

use sqlx::{MySql, MySqlConnection, Pool, Transaction};
use uuid::Uuid;

use super::{
    AdminStorage, Attempt, CommitOrder, DeadRow, DeadRowFilter, Fence, GuardOutcome, HintStorage,
    InboxCounts, InboxQuery, InboxRow, IncomingEvent, IngestReport, Instance, LeaseStorage, LocalStorage,
    LocalSubscription, NewEvent, OutboxCounts, OutboxQuery, OutboxRow, OwedEvent, PoolSettings, Retention,
    SentRows, Storage, StorageError, Table, TakenLease, Trouble,
};
use crate::envelope::EventId;
use pool::named;

impl Storage for MySql {
    const BEGIN: &'static str = pool::BEGIN;

    const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

    const SINGLE_WRITER: bool = false;

    const KEEPS_SESSIONS: bool = false;

    /// A time by the database's clock: how far open transactions have come can't be asked without privileges.
    type Horizon = horizon::Horizon;

    async fn open(pool: &Pool<Self>, settings: &PoolSettings) -> Result<Pool<Self>, StorageError> {
        pool::open(pool, settings).await
    }

    fn identity(pool: &Pool<Self>) -> String {
        pool::identity(&pool.connect_options())
    }

    async fn migrate(pool: &Pool<Self>) -> Result<(), StorageError> {
        migrate::migrate(pool).await
    }

    async fn check(conn: &mut MySqlConnection) -> Result<Vec<String>, StorageError> {
        let result = migrate::check(conn).await;
        named(conn, result).await
    }

    async fn insert_outbox(conn: &mut MySqlConnection, events: &[NewEvent]) -> Result<(), StorageError> {
        let result = outbox::insert(conn, events).await;
        named(conn, result).await
    }

    async fn read_outbox(
        conn: &mut MySqlConnection,
        query: &OutboxQuery<'_>,
    ) -> Result<Vec<OutboxRow>, StorageError> {
        let result = outbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn mark_sent(
        conn: &mut MySqlConnection,
        ids: &[EventId],
        keep: SentRows,
    ) -> Result<u64, StorageError> {
        let result = outbox::mark_sent(conn, ids, keep).await;
        named(conn, result).await
    }

    async fn mark_outbox_dead(
        conn: &mut MySqlConnection,
        id: EventId,
        reason: &str,
    ) -> Result<bool, StorageError> {
        let result = outbox::mark_dead(conn, id, reason).await;
        named(conn, result).await
    }

    async fn horizon(conn: &mut MySqlConnection) -> Result<Self::Horizon, StorageError> {
        horizon::take(conn).await
    }

    async fn has_passed(
        conn: &mut MySqlConnection,
        horizon: &mut Self::Horizon,
    ) -> Result<bool, StorageError> {
        horizon::has_passed(conn, horizon).await
    }

    async fn ingest_in_order(
        conn: &mut MySqlConnection,
        subscription: &str,
        events: &[IncomingEvent],
        order: &mut CommitOrder,
    ) -> Result<IngestReport, StorageError> {
        let result = ingest::ingest(conn, subscription, events, order).await;
        named(conn, result).await
    }

    async fn ready_shards(
        conn: &mut MySqlConnection,
        subscription: &str,
        shards: &[(u8, i64)],
    ) -> Result<Vec<u8>, StorageError> {
        let result = inbox::ready_shards(conn, subscription, shards).await;
        named(conn, result).await
    }

    async fn read_inbox(
        conn: &mut MySqlConnection,
        query: &InboxQuery<'_>,
    ) -> Result<Vec<InboxRow>, StorageError> {
        let result = inbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn begin_guarded(
        conn: &mut MySqlConnection,
        timeout: Duration,
    ) -> Result<Transaction<'_, Self>, StorageError> {
        guard::begin(conn, timeout).await
    }

    async fn mark_processed(conn: &mut MySqlConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let result = inbox::mark_processed(conn, seqs).await;
        named(conn, result).await
    }

    async fn close_guard(conn: &mut MySqlConnection, marked: &[i64]) -> Result<GuardOutcome, StorageError> {
        guard::close(conn, marked).await
    }

    async fn record_attempt(conn: &mut MySqlConnection, attempt: &Attempt<'_>) -> Result<bool, StorageError> {
        let result = inbox::record_attempt(conn, attempt).await;
        named(conn, result).await
    }

    fn trouble(error: &sqlx::Error) -> Trouble {
        pool::trouble(error)
    }

    async fn purge(conn: &mut MySqlConnection, retention: &Retention) -> Result<u64, StorageError> {
        let result = admin::purge(conn, retention).await;
        named(conn, result).await
    }
}

/// Neither MariaDB nor MySQL carries hints: other processes look.
impl HintStorage for MySql {}

impl LeaseStorage for MySql {
    async fn take_leases(
        conn: &mut MySqlConnection,
        names: &[String],
        owner: Uuid,
        limit: u32,
        time: Duration,
    ) -> Result<Vec<TakenLease>, StorageError> {
        let result = lease::take(conn, names, owner, limit, time).await;
        named(conn, result).await
    }

    async fn renew_leases(
        conn: &mut MySqlConnection,
        fences: &[Fence],
        time: Duration,
    ) -> Result<Vec<String>, StorageError> {
        let result = lease::renew(conn, fences, time).await;
        named(conn, result).await
    }

    async fn release_leases(conn: &mut MySqlConnection, fences: &[Fence]) -> Result<(), StorageError> {
        let result = lease::release(conn, fences).await;
        named(conn, result).await
    }

    async fn bind_lane(conn: &mut MySqlConnection, lane: &str, broker: &str) -> Result<String, StorageError> {
        let result = lease::bind_lane(conn, lane, broker).await;
        named(conn, result).await
    }

    async fn announce(
        conn: &mut MySqlConnection,
        instance: &Instance,
        time: Duration,
    ) -> Result<Vec<Instance>, StorageError> {
        let result = lease::announce(conn, instance, time).await;
        named(conn, result).await
    }

    async fn retire(conn: &mut MySqlConnection, instance: Uuid) -> Result<(), StorageError> {
        let result = lease::retire(conn, instance).await;
        named(conn, result).await
    }
}

impl AdminStorage for MySql {
    async fn count_outbox(conn: &mut MySqlConnection) -> Result<OutboxCounts, StorageError> {
        let result = admin::count_outbox(conn).await;
        named(conn, result).await
    }

    async fn count_inbox(conn: &mut MySqlConnection) -> Result<InboxCounts, StorageError> {
        let result = admin::count_inbox(conn).await;
        named(conn, result).await
    }

    async fn dead_rows(
        conn: &mut MySqlConnection,
        table: Table,
        filter: &DeadRowFilter,
    ) -> Result<Vec<DeadRow>, StorageError> {
        let result = admin::dead_rows(conn, table, filter).await;
        named(conn, result).await
    }

    async fn requeue(
        conn: &mut MySqlConnection,
        table: Table,
        seqs: &[i64],
        delay: Duration,
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::requeue(conn, table, seqs, delay, note).await;
        named(conn, result).await
    }

    async fn resend(
        conn: &mut MySqlConnection,
        within: Duration,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::resend(conn, within, event).await;
        named(conn, result).await
    }

    async fn discard(
        conn: &mut MySqlConnection,
        table: Table,
        seqs: &[i64],
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::discard(conn, table, seqs, note).await;
        named(conn, result).await
    }
}

impl LocalStorage for MySql {
    async fn record_subscriptions(
        conn: &mut MySqlConnection,
        store: &str,
        subscriptions: &[LocalSubscription],
    ) -> Result<(), StorageError> {
        let result = local::record_subscriptions(conn, store, subscriptions).await;
        named(conn, result).await
    }

    async fn subscriptions(conn: &mut MySqlConnection) -> Result<Vec<LocalSubscription>, StorageError> {
        let result = local::subscriptions(conn).await;
        named(conn, result).await
    }

    async fn forget_subscription(
        conn: &mut MySqlConnection,
        store: &str,
        name: &str,
    ) -> Result<u64, StorageError> {
        let result = local::forget_subscription(conn, store, name).await;
        named(conn, result).await
    }

    async fn owe(
        conn: &mut MySqlConnection,
        store: &str,
        subscription: &str,
        events: &[IncomingEvent],
    ) -> Result<(), StorageError> {
        let result = local::owe(conn, store, subscription, events).await;
        named(conn, result).await
    }

    async fn owed(
        conn: &mut MySqlConnection,
        store: &str,
        limit: u32,
    ) -> Result<Vec<OwedEvent>, StorageError> {
        let result = local::owed(conn, store, limit).await;
        named(conn, result).await
    }

    async fn paid(conn: &mut MySqlConnection, seqs: &[i64]) -> Result<(), StorageError> {
        let result = local::paid(conn, seqs).await;
        named(conn, result).await
    }
}
