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

mod chain;
mod history;
mod rows;
mod status;
mod time;

pub use crate::storage::{
    DeadRow, DeadRowFilter, InboxCounts, InstanceStatus, LeaseStatus, LocalSubscription, NotACursor,
    OutboxCounts, RelatedRow, Retention, RowCursor, RowDetail, RowFilter, RowState, RowSummary, StateCounts,
    Table, Throughput,
};
use crate::storage::{Storage, StorageError};
use crate::wake::{self, Hint};
pub use chain::{Chain, ChainLink, chain};
pub use history::{Span, settled_between};
pub use rows::{clock, inbox_rows, list_rows, outbox_row, purge, replay, resend_between};
pub use status::{instances, leases, migration_sql, subscriptions_received, throughput};
pub use time::{NotATime, time_of};

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
    requeue_noting(pool, table, seqs, delay, None).await
}

/// The same with a reason, which is added to the rows' last errors and stays with them until they fail again.
///
/// # Errors
/// When the database refuses.
pub async fn requeue_because<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    seqs: &[i64],
    delay: Duration,
    reason: &str,
) -> Result<u64, StorageError> {
    requeue_noting(pool, table, seqs, delay, note("requeued", reason).as_deref()).await
}

async fn requeue_noting<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    seqs: &[i64],
    delay: Duration,
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let mut conn = pool.acquire().await?;
    let count = DB::requeue(&mut *conn, table, seqs, delay, note).await?;
    tracing::info!(table = table.name(), count, note, "an operator has requeued dead events");
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
    discard_noting(pool, table, seqs, None).await
}

/// The same with a reason: in the inbox it is added to the rows' last errors. Of the outbox nothing is kept, and so it
/// stands in the log alone.
///
/// # Errors
/// When the database refuses.
pub async fn discard_because<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    seqs: &[i64],
    reason: &str,
) -> Result<u64, StorageError> {
    discard_noting(pool, table, seqs, note("discarded", reason).as_deref()).await
}

async fn discard_noting<DB: Storage>(
    pool: &Pool<DB>,
    table: Table,
    seqs: &[i64],
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let count = DB::discard(&mut *pool.acquire().await?, table, seqs, note).await?;
    tracing::info!(table = table.name(), count, note, "an operator has discarded dead events");
    Ok(count)
}

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

fn note(done: &str, reason: &str) -> Option<String> {
    let reason: String = reason.trim().chars().take(LONGEST_REASON).collect();
    (!reason.is_empty())
        .then(|| format!("{done} by an operator: {}", reason.replace(['\n', '\r', '\0'], " ")))
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
