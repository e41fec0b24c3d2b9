//! Rows as operators look for them, one row in full, and what is done to many of them.

use std::time::SystemTime;

use sqlx::Pool;

use super::tell;
use crate::envelope::EventId;
use crate::storage::{OperatorStorage, Retention, RowDetail, RowFilter, RowSummary, StorageError, Table};
use crate::wake::Hint;

/// The database's clock, by which all times of rows are told.
///
/// # Errors
/// When the database refuses.
pub async fn clock<DB: OperatorStorage>(pool: &Pool<DB>) -> Result<SystemTime, StorageError> {
    DB::clock(&mut *pool.acquire().await?).await
}

/// A page of rows in one state, without their bodies. Open rows are read along the indexes of open rows; settled ones as a
/// range of time, which [`RowFilter::since`] begins.
///
/// ```no_run
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::StorageError> {
/// use distributed_events::admin::{self, RowFilter, RowState, Table};
/// use std::time::Duration;
///
/// let hour_ago = admin::clock(&pool).await? - Duration::from_secs(3600);
/// let mut filter = RowFilter::new(RowState::Settled, hour_ago);
/// filter.session = Some("order-17".to_owned());
/// loop {
///     let page = admin::list_rows(&pool, Table::Outbox, &filter).await?;
///     let Some(last) = page.last() else { break };
///     filter.after = Some(last.cursor.clone());
///     for row in &page {
///         println!("{} {} sent {:?}", row.id, row.event, row.settled_at);
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the database refuses.
pub async fn list_rows<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    filter: &RowFilter,
) -> Result<Vec<RowSummary>, StorageError> {
    DB::list_rows(&mut *pool.acquire().await?, table, filter).await
}

/// An event of the outbox with all that is known of it, its body included.
///
/// # Errors
/// When the database refuses.
pub async fn outbox_row<DB: OperatorStorage>(
    pool: &Pool<DB>,
    id: EventId,
) -> Result<Option<RowDetail>, StorageError> {
    DB::outbox_row(&mut *pool.acquire().await?, id).await
}

/// An event as each subscription's inbox has it: a seek for each subscription, however many rows there are.
///
/// # Errors
/// When the database refuses.
pub async fn inbox_rows<DB: OperatorStorage>(
    pool: &Pool<DB>,
    id: EventId,
) -> Result<Vec<RowDetail>, StorageError> {
    let mut conn = pool.acquire().await?;
    let mut rows = Vec::new();
    for subscription in super::status::received::<DB>(&mut *conn).await? {
        rows.extend(DB::inbox_row(&mut *conn, &subscription, id).await?);
    }
    Ok(rows)
}

/// Sends events again that were sent from `since` until before `until`, by the database's clock, of one name or of all;
/// returns how many. What is said of [`resend`](super::resend) holds here, too.
///
/// # Errors
/// When the database refuses.
pub async fn resend_between<DB: OperatorStorage>(
    pool: &Pool<DB>,
    since: SystemTime,
    until: SystemTime,
    event: Option<&str>,
) -> Result<u64, StorageError> {
    let mut conn = pool.acquire().await?;
    let count = DB::resend_between(&mut *conn, since, until, event).await?;
    tell::<DB>(&mut *conn, Hint::Published).await;
    Ok(count)
}

/// Makes processed inbox rows pending again, so that their subscription's handlers run once more, in the transaction that
/// marks them again; returns how many still had their bodies. Their effects happen a second time, and within their session
/// they step out of order: whoever replays has to know that the handlers bear it.
///
/// # Errors
/// When the database refuses.
pub async fn replay<DB: OperatorStorage>(pool: &Pool<DB>, seqs: &[i64]) -> Result<u64, StorageError> {
    let mut conn = pool.acquire().await?;
    let count = DB::replay(&mut *conn, seqs).await?;
    tell::<DB>(&mut *conn, Hint::Received).await;
    Ok(count)
}

/// Deletes a slice of what retention does not keep any more; returns how many rows it was, so that it is done when that is
/// less than the limit. A bus and a relay do this by themselves.
///
/// # Errors
/// When the database refuses.
pub async fn purge<DB: OperatorStorage>(pool: &Pool<DB>, retention: &Retention) -> Result<u64, StorageError> {
    DB::purge(&mut *pool.acquire().await?, retention).await
}
