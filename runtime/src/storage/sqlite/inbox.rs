//! The inbox table as the processor sees it.

use sqlx::SqliteConnection;

use super::row::{self, Reader, inbox_columns, json, json_numbers, millis};
use crate::storage::{Attempt, InboxQuery, InboxRow, StorageError, Verdict};

/// One seek a shard; the answer keeps the order of the question.
pub(super) const READY: &str = "SELECT value ->> 0 AS shard FROM json_each(?2) AS asked WHERE EXISTS ( \
    SELECT 1 FROM inbox INDEXED BY inbox_pending WHERE subscription = ?1 AND shard = asked.value ->> 0 \
    AND status = 'pending' AND seq > asked.value ->> 1) ORDER BY asked.key";

/// Blocked sessions are left out here and not by the reader, so that any number of their rows hides no other.
pub(super) const READ: &str = concat!(
    "SELECT ",
    inbox_columns!(),
    " FROM inbox INDEXED BY inbox_pending ",
    "WHERE subscription = ?1 AND shard = ?2 AND status = 'pending' AND seq > ?3 ",
    "AND (session_id IS NULL OR session_id NOT IN (SELECT value FROM json_each(?4))) ",
    "AND seq NOT IN (SELECT value FROM json_each(?6)) ORDER BY seq LIMIT ?5"
);

pub(super) const MARK_PROCESSED: &str = concat!(
    "UPDATE inbox NOT INDEXED SET status = 'processed', processed_at = ",
    now!(),
    " WHERE status = 'pending' AND seq IN (SELECT value FROM json_each(?1))"
);

/// Only the holder of the lease may write what became of an attempt (rule 4).
macro_rules! fenced {
    () => {
        " WHERE seq = ?1 AND status = 'pending' AND EXISTS ( \
            SELECT 1 FROM distributed_events_leases WHERE name = ?4 AND owner = ?5 AND epoch = ?6)"
    };
}

pub(super) const RETRY: &str = concat!(
    "UPDATE inbox SET attempts = max(attempts + ?2, 0), last_error = coalesce(?3, last_error), next_attempt_at = ",
    now!(),
    " + ?7",
    fenced!()
);

pub(super) const DEAD: &str = concat!(
    "UPDATE inbox SET attempts = max(attempts + ?2, 0), last_error = coalesce(?3, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    fenced!()
);

pub(super) const DEAD_AFTER_END: &str = concat!(
    "UPDATE inbox SET attempts = max(attempts + ?2, 0), last_error = coalesce(?3, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    " WHERE seq = ?1 AND status IN ('pending', 'processed')"
);

pub(super) async fn ready_shards(
    conn: &mut SqliteConnection,
    subscription: &str,
    shards: &[(u8, i64)],
) -> Result<Vec<u8>, StorageError> {
    let rows = sqlx::query(READY).bind(subscription).bind(json(shards)?).fetch_all(conn).await?;
    rows.iter().map(|row| Reader::new(row, "inbox").get("shard")).collect()
}

pub(super) async fn read(
    conn: &mut SqliteConnection,
    query: &InboxQuery<'_>,
) -> Result<Vec<InboxRow>, StorageError> {
    let rows = super::query(READ)
        .bind(query.subscription)
        .bind(i64::from(query.shard))
        .bind(query.after)
        .bind(json(query.blocked)?)
        .bind(i64::from(query.limit))
        .bind(json_numbers(query.except))
        .fetch_all(conn)
        .await?;
    rows.iter().map(row::inbox_row).collect()
}

pub(super) async fn mark_processed(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<u64, StorageError> {
    Ok(super::query(MARK_PROCESSED).bind(json_numbers(seqs)).execute(conn).await?.rows_affected())
}

pub(super) async fn record_attempt(
    conn: &mut SqliteConnection,
    attempt: &Attempt<'_>,
) -> Result<bool, StorageError> {
    let (sql, delay) = match attempt.verdict {
        Verdict::Retry(delay) => (RETRY, Some(millis(delay))),
        Verdict::Dead => (DEAD, None),
        Verdict::DeadAfterEnd => (DEAD_AFTER_END, None),
    };
    let mut query = super::query(sql).bind(attempt.seq).bind(i64::from(attempt.count)).bind(attempt.error);
    if !matches!(attempt.verdict, Verdict::DeadAfterEnd) {
        let fence = attempt.fence;
        query = query.bind(&fence.name).bind(fence.owner.as_bytes().to_vec()).bind(fence.epoch);
    }
    if delay.is_some() {
        query = query.bind(delay);
    }
    Ok(query.execute(conn).await?.rows_affected() > 0)
}
