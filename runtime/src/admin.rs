//! What operators ask and do: counts, rows in every state, leases, rates; requeue, discard, replay, resend, purge. The command
//! line shows all of it. Nothing here scans retained history.
//!
//! ```no_run
//! # async fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::StorageError> {
//! use distributed_events::admin::{self, DeadRowFilter, Table};
//! use std::time::Duration;
//!
//! for row in admin::dead_rows(&pool, Table::Inbox, &DeadRowFilter::default()).await? {
//!     println!("{} {}: {}", row.event, row.id, row.reason);
//!     admin::requeue(&pool, Table::Inbox, &[row.seq], Duration::ZERO).await?;
//! }
//! # Ok(()) }
//! ```

use std::time::Duration;

use sqlx::Pool;
use uuid::Uuid;

mod rows;
mod status;

pub use crate::storage::{
    DeadRow, DeadRowFilter, InboxCounts, InstanceStatus, LeaseStatus, LocalSubscription, NotACursor,
    OutboxCounts, Retention, RowCursor, RowDetail, RowFilter, RowState, RowSummary, StateCounts, Table,
    Throughput,
};
use crate::storage::{Storage, StorageError};
use crate::wake::{self, Hint};
pub use rows::{clock, inbox_rows, list_rows, outbox_row, purge, replay, resend_between};
pub use status::{instances, leases, migration_sql, subscriptions_received, throughput};

/// Counts the outbox: pending and dead rows by lane, with the age of the oldest pending row.
///
/// # Errors
/// When the database refuses.
pub async fn count_outbox<DB: Storage>(pool: &Pool<DB>) -> Result<OutboxCounts, StorageError> {
    DB::count_outbox(&mut *pool.acquire().await?).await
}

/// Counts the inbox: pending and dead rows by subscription, with the age of the oldest pending row.
///
/// # Errors
/// When the database refuses.
pub async fn count_inbox<DB: Storage>(pool: &Pool<DB>) -> Result<InboxCounts, StorageError> {
    DB::count_inbox(&mut *pool.acquire().await?).await
}

/// Lists dead rows in the order of their table, a page at a time.
///
/// # Errors
/// When the database refuses.
pub async fn dead_rows<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    filter: &DeadRowFilter,
) -> Result<Vec<DeadRow>, StorageError> {
    DB::dead_rows(&mut *pool.acquire().await?, table, filter).await
}

/// Makes dead rows pending again, with no attempts counted, due after `delay`; returns how many were dead. Within its
/// session a requeued event comes after those that went on without it.
///
/// # Errors
/// When the database refuses.
pub async fn requeue<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    seqs: &[i64],
    delay: Duration,
) -> Result<u64, StorageError> {
    let mut conn = pool.acquire().await?;
    let count = DB::requeue(&mut *conn, table, seqs, delay).await?;
    let hint = match table {
        Table::Outbox => Hint::Published,
        Table::Inbox => Hint::Received,
    };
    tell::<DB>(&mut *conn, hint).await;
    Ok(count)
}

/// Sends events again that were sent within the last `within`, of one name or of all: for a subscriber whose database has
/// come back without its last transactions, such as after a failover. Returns how many. What a subscriber still has it
/// knows by the id and drops; what it has lost steps out of its session's order, behind what has come since. A broker with duplicate detection drops what it has seen within its window. Only what
/// retention has kept can be sent again.
///
/// # Errors
/// When the database refuses.
pub async fn resend<DB: Storage>(
    pool: &Pool<DB>,
    within: Duration,
    event: Option<&str>,
) -> Result<u64, StorageError> {
    let mut conn = pool.acquire().await?;
    let count = DB::resend(&mut *conn, within, event).await?;
    tell::<DB>(&mut *conn, Hint::Published).await;
    Ok(count)
}

/// Gives dead rows up: in the inbox they keep their key, so that a copy sent again is still known; in the outbox they
/// are deleted. Returns how many were dead.
///
/// # Errors
/// When the database refuses.
pub async fn discard<DB: Storage>(pool: &Pool<DB>, table: Table, seqs: &[i64]) -> Result<u64, StorageError> {
    DB::discard(&mut *pool.acquire().await?, table, seqs).await
}

/// The subscriptions to which the local broker delivers this database's events, as they were recorded in it.
///
/// # Errors
/// When the database refuses.
pub async fn subscriptions<DB: Storage>(pool: &Pool<DB>) -> Result<Vec<LocalSubscription>, StorageError> {
    DB::subscriptions(&mut *pool.acquire().await?).await
}

/// Forgets a subscription of a store that is gone for good, in this publisher's database, with the events that are kept
/// for it; returns how many those were. A service that still has it records it again at its next start.
///
/// # Errors
/// When the database refuses.
pub async fn forget_subscription<DB: Storage>(
    pool: &Pool<DB>,
    store: &str,
    name: &str,
) -> Result<u64, StorageError> {
    DB::forget_subscription(&mut *pool.acquire().await?, store, name).await
}

/// A hint: whoever has the loops looks sooner or later all the same.
async fn tell<DB: Storage>(conn: &mut DB::Connection, hint: Hint) {
    wake::heard(hint);
    let _unheard = DB::notify(conn, Uuid::nil(), &[hint]).await;
}
