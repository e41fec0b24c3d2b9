//! The storage port on PostgreSQL, 13 and newer.
//!
//! Transactions are READ COMMITTED whatever the server's default is, short, and wait for other's locks only for a while.
//! Statuses are literals, so that plans that serve every argument can use the partial indexes of open rows too; and no
//! index gives the order of `seq` over all rows, so that no statistics can ever turn a loop's read into a walk through
//! what retention keeps.
//!
//! # Behind PgBouncer
//!
//! Poolers in transaction mode work, with one setting: a pool that doesn't cache statements,
//! `PgConnectOptions::statement_cache_capacity(0)` (in a URL `?statement-cache-capacity=0`). Then no prepared statement has
//! a name, every statement with arguments stands in an explicit transaction, so that it is executed by the server that has
//! parsed it, and no session is set up. PgBouncer needs `ignore_startup_parameters = extra_float_digits`, because sqlx
//! always sends it. A handler's and a publisher's own statements need `.persistent(false)`: sqlx gives the others names
//! even then. The setting stays the same with newer versions that keep track of names, because they refuse the start-up
//! options by which the library sets up sessions of its own. A pool that caches is refused there when it is opened.

/// Whether a row that was found by its key is pending, so that the planner can't see that the index of pending rows would
/// do as well: where statistics know of few, it would read that one whole, and a backlog has millions.
macro_rules! is_pending {
    () => {
        "status || '' = 'pending'"
    };
}

/// The database's clock, in the milliseconds that the tables hold, as often as it is asked.
macro_rules! clock {
    () => {
        "date_trunc('milliseconds', clock_timestamp())"
    };
}

/// The same once for all rows of a statement: no index can be searched by what may change from row to row.
macro_rules! now {
    () => {
        concat!("(SELECT ", clock!(), ")")
    };
}

/// A number of milliseconds as an interval; exact, as all numbers below 2^53 are.
macro_rules! interval {
    ($millis:literal) => {
        concat!("(", $millis, " * interval '1 millisecond')")
    };
}

/// A time or an interval in milliseconds. They are rounded, because PostgreSQL 13 extracts floating-point numbers.
macro_rules! millis {
    ($($time:expr),+) => {
        concat!("(extract(epoch FROM ", $($time,)+ ") * 1000)::bigint")
    };
}

mod admin;
mod guard;
mod hints;
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

use sqlx::{PgConnection, Pool, Postgres, Transaction};
use uuid::Uuid;

use super::{
    AdminStorage, Attempt, CommitOrder, DeadRow, DeadRowFilter, Fence, GuardOutcome, InboxCounts, InboxQuery,
    InboxRow, IncomingEvent, IngestReport, Instance, LeaseStorage, LocalStorage, LocalSubscription, NewEvent,
    OutboxCounts, OutboxQuery, OutboxRow, OwedEvent, PoolSettings, Retention, SentRows, Storage,
    StorageError, Table, TakenLease, Trouble,
};
use crate::envelope::EventId;
use pool::named;

impl Storage for Postgres {
    const BEGIN: &'static str = pool::BEGIN;

    // Nobody but the row's own session waits for a handler.
    const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

    const SINGLE_WRITER: bool = false;

    const KEEPS_SESSIONS: bool = true;

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

    async fn check(conn: &mut PgConnection) -> Result<Vec<String>, StorageError> {
        let result = migrate::check(conn).await;
        named(conn, result).await
    }

    async fn insert_outbox(conn: &mut PgConnection, events: &[NewEvent]) -> Result<(), StorageError> {
        let result = outbox::insert(conn, events).await;
        named(conn, result).await
    }

    async fn read_outbox(
        conn: &mut PgConnection,
        query: &OutboxQuery<'_>,
    ) -> Result<Vec<OutboxRow>, StorageError> {
        let result = outbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn mark_sent(
        conn: &mut PgConnection,
        ids: &[EventId],
        keep: SentRows,
    ) -> Result<u64, StorageError> {
        let result = outbox::mark_sent(conn, ids, keep).await;
        named(conn, result).await
    }

    async fn mark_outbox_dead(
        conn: &mut PgConnection,
        id: EventId,
        reason: &str,
    ) -> Result<bool, StorageError> {
        let result = outbox::mark_dead(conn, id, reason).await;
        named(conn, result).await
    }

    async fn horizon(conn: &mut PgConnection) -> Result<horizon::Horizon, StorageError> {
        let result = horizon::take(conn).await;
        named(conn, result).await
    }

    async fn has_passed(
        conn: &mut PgConnection,
        horizon: &mut horizon::Horizon,
    ) -> Result<bool, StorageError> {
        let result = horizon::has_passed(conn, horizon).await;
        named(conn, result).await
    }

    async fn ingest_in_order(
        conn: &mut PgConnection,
        subscription: &str,
        events: &[IncomingEvent],
        order: &mut CommitOrder,
    ) -> Result<IngestReport, StorageError> {
        let result = ingest::ingest(conn, subscription, events, order).await;
        named(conn, result).await
    }

    async fn ready_shards(
        conn: &mut PgConnection,
        subscription: &str,
        shards: &[(u8, i64)],
    ) -> Result<Vec<u8>, StorageError> {
        let result = inbox::ready_shards(conn, subscription, shards).await;
        named(conn, result).await
    }

    async fn read_inbox(
        conn: &mut PgConnection,
        query: &InboxQuery<'_>,
    ) -> Result<Vec<InboxRow>, StorageError> {
        let result = inbox::read(conn, query).await;
        named(conn, result).await
    }

    async fn begin_guarded(
        conn: &mut PgConnection,
        timeout: Duration,
    ) -> Result<Transaction<'_, Self>, StorageError> {
        guard::begin(conn, timeout).await
    }

    async fn mark_processed(conn: &mut PgConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let result = inbox::mark_processed(conn, seqs).await;
        named(conn, result).await
    }

    async fn close_guard(conn: &mut PgConnection, marked: &[i64]) -> Result<GuardOutcome, StorageError> {
        guard::close(conn, marked).await
    }

    async fn record_attempt(conn: &mut PgConnection, attempt: &Attempt<'_>) -> Result<bool, StorageError> {
        let result = inbox::record_attempt(conn, attempt).await;
        named(conn, result).await
    }

    async fn forget_plans(conn: &mut PgConnection) -> Result<(), StorageError> {
        pool::forget_plans(conn).await
    }

    fn trouble(error: &sqlx::Error) -> Trouble {
        pool::trouble(error)
    }

    async fn purge(conn: &mut PgConnection, retention: &Retention) -> Result<u64, StorageError> {
        let result = admin::purge(conn, retention).await;
        named(conn, result).await
    }
}

impl LeaseStorage for Postgres {
    async fn take_leases(
        conn: &mut PgConnection,
        names: &[String],
        owner: Uuid,
        limit: u32,
        time: Duration,
    ) -> Result<Vec<TakenLease>, StorageError> {
        let result = lease::take(conn, names, owner, limit, time).await;
        named(conn, result).await
    }

    async fn renew_leases(
        conn: &mut PgConnection,
        fences: &[Fence],
        time: Duration,
    ) -> Result<Vec<String>, StorageError> {
        let result = lease::renew(conn, fences, time).await;
        named(conn, result).await
    }

    async fn release_leases(conn: &mut PgConnection, fences: &[Fence]) -> Result<(), StorageError> {
        let result = lease::release(conn, fences).await;
        named(conn, result).await
    }

    async fn bind_lane(conn: &mut PgConnection, lane: &str, broker: &str) -> Result<String, StorageError> {
        let result = lease::bind_lane(conn, lane, broker).await;
        named(conn, result).await
    }

    async fn announce(
        conn: &mut PgConnection,
        instance: &Instance,
        time: Duration,
    ) -> Result<Vec<Instance>, StorageError> {
        let result = lease::announce(conn, instance, time).await;
        named(conn, result).await
    }

    async fn retire(conn: &mut PgConnection, instance: Uuid) -> Result<(), StorageError> {
        let result = lease::retire(conn, instance).await;
        named(conn, result).await
    }
}

impl AdminStorage for Postgres {
    async fn count_outbox(conn: &mut PgConnection) -> Result<OutboxCounts, StorageError> {
        let result = admin::count_outbox(conn).await;
        named(conn, result).await
    }

    async fn count_inbox(conn: &mut PgConnection) -> Result<InboxCounts, StorageError> {
        let result = admin::count_inbox(conn).await;
        named(conn, result).await
    }

    async fn dead_rows(
        conn: &mut PgConnection,
        table: Table,
        filter: &DeadRowFilter,
    ) -> Result<Vec<DeadRow>, StorageError> {
        let result = admin::dead_rows(conn, table, filter).await;
        named(conn, result).await
    }

    async fn requeue(
        conn: &mut PgConnection,
        table: Table,
        seqs: &[i64],
        delay: Duration,
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::requeue(conn, table, seqs, delay, note).await;
        named(conn, result).await
    }

    async fn resend(
        conn: &mut PgConnection,
        within: Duration,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::resend(conn, within, event).await;
        named(conn, result).await
    }

    async fn discard(
        conn: &mut PgConnection,
        table: Table,
        seqs: &[i64],
        note: Option<&str>,
    ) -> Result<u64, StorageError> {
        let result = admin::discard(conn, table, seqs, note).await;
        named(conn, result).await
    }
}

impl LocalStorage for Postgres {
    async fn record_subscriptions(
        conn: &mut PgConnection,
        store: &str,
        subscriptions: &[LocalSubscription],
    ) -> Result<(), StorageError> {
        let result = local::record_subscriptions(conn, store, subscriptions).await;
        named(conn, result).await
    }

    async fn subscriptions(conn: &mut PgConnection) -> Result<Vec<LocalSubscription>, StorageError> {
        let result = local::subscriptions(conn).await;
        named(conn, result).await
    }

    async fn forget_subscription(
        conn: &mut PgConnection,
        store: &str,
        name: &str,
    ) -> Result<u64, StorageError> {
        let result = local::forget_subscription(conn, store, name).await;
        named(conn, result).await
    }

    async fn owe(
        conn: &mut PgConnection,
        store: &str,
        subscription: &str,
        events: &[IncomingEvent],
    ) -> Result<(), StorageError> {
        let result = local::owe(conn, store, subscription, events).await;
        named(conn, result).await
    }

    async fn owed(conn: &mut PgConnection, store: &str, limit: u32) -> Result<Vec<OwedEvent>, StorageError> {
        let result = local::owed(conn, store, limit).await;
        named(conn, result).await
    }

    async fn paid(conn: &mut PgConnection, seqs: &[i64]) -> Result<(), StorageError> {
        let result = local::paid(conn, seqs).await;
        named(conn, result).await
    }
}
