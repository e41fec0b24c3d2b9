//! The inbox table as the processor sees it.

use sqlx::{Connection, PgConnection};

use super::guard::marked;
use super::pool::{self, execute, fetch_all, fetch_each, page, query};
use super::row::{self, Reader, inbox_columns, millis};
use crate::storage::{Attempt, InboxQuery, InboxRow, StorageError, Verdict};

/// One seek a shard; the answer keeps the order of the question. LIMIT and ORDER BY let no plan join or scan instead.
pub(super) const READY: &str = "SELECT asked.shard::bigint AS shard \
    FROM unnest($2::smallint[], $3::bigint[]) WITH ORDINALITY AS asked (shard, low, place) \
    CROSS JOIN LATERAL (SELECT FROM inbox WHERE subscription = $1 AND inbox.shard = asked.shard \
    AND status = 'pending' AND seq > asked.low ORDER BY seq LIMIT 1) AS found ORDER BY asked.place";

/// Blocked sessions are left out here and not by the reader, so that any number of their rows hides no other. Where a page
/// begins is asked as for the outbox, so that one plan serves every page.
pub(super) const READ: &str = concat!(
    "SELECT ",
    inbox_columns!(),
    " FROM inbox WHERE subscription = $1 AND shard = $2 AND status = 'pending' AND seq > (SELECT $3::bigint) ",
    "AND (session_id IS NULL OR session_id NOT IN (SELECT unnest($4::text[]))) ",
    "AND seq NOT IN (SELECT unnest($5::bigint[])) ORDER BY seq"
);

macro_rules! mark_processed {
    ($seqs:literal, $now:expr) => {
        concat!(
            "WITH marked AS (UPDATE inbox SET status = 'processed', processed_at = ",
            $now,
            " WHERE seq + 0 ",
            $seqs,
            " AND ",
            is_pending!(),
            " RETURNING 1) SELECT count(*) AS marked, ",
            marked!(),
            " FROM marked"
        )
    };
}

pub(super) const MARK_PROCESSED: &str = mark_processed!("= ANY($1)", now!());
/// A list of one is planned anew at each execution, because the plan for any list expects more. One row asks for the time once
/// without a subquery, which takes longer to set up than to run.
pub(super) const MARK_ONE_PROCESSED: &str = mark_processed!("= $1", clock!());

/// Only the holder of the lease may write what became of an attempt (rule 4).
macro_rules! fenced {
    () => {
        concat!(
            " WHERE seq + 0 = $1 AND ",
            is_pending!(),
            " AND EXISTS (SELECT FROM distributed_events_leases WHERE name = $4 AND owner = $5 AND epoch = $6)"
        )
    };
}

pub(super) const RETRY: &str = concat!(
    "UPDATE inbox SET attempts = greatest(attempts + $2, 0), last_error = coalesce($3, last_error), next_attempt_at = ",
    now!(),
    " + ",
    interval!("$7"),
    fenced!()
);

pub(super) const DEAD: &str = concat!(
    "UPDATE inbox SET attempts = greatest(attempts + $2, 0), last_error = coalesce($3, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    fenced!()
);

pub(super) const DEAD_AFTER_END: &str = concat!(
    "UPDATE inbox SET attempts = greatest(attempts + $2, 0), last_error = coalesce($3, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    " WHERE seq + 0 = $1 AND status IN ('pending', 'processed')"
);

pub(super) async fn ready_shards(
    conn: &mut PgConnection,
    subscription: &str,
    shards: &[(u8, i64)],
) -> Result<Vec<u8>, StorageError> {
    let query = query(conn, READY)
        .bind(subscription)
        .bind(shards.iter().map(|(shard, _)| i16::from(*shard)).collect::<Vec<_>>())
        .bind(shards.iter().map(|(_, low)| *low).collect::<Vec<_>>());
    let rows = fetch_all(conn, query).await?;
    rows.iter().map(|row| Reader::new(row, "inbox").shard("shard")).collect()
}

pub(super) async fn read(
    conn: &mut PgConnection,
    asked: &InboxQuery<'_>,
) -> Result<Vec<InboxRow>, StorageError> {
    let query = page(conn, READ, asked.limit)
        .bind(asked.subscription)
        .bind(i16::from(asked.shard))
        .bind(asked.after)
        .bind(asked.blocked)
        .bind(asked.except);
    fetch_each(conn, query, |row| row::inbox_row(&row)).await
}

pub(super) async fn mark_processed(conn: &mut PgConnection, seqs: &[i64]) -> Result<u64, StorageError> {
    if conn.is_in_transaction() {
        return mark(conn, seqs).await;
    }
    let mut tx = pool::begin(conn).await?;
    let marked = mark(&mut tx, seqs).await?;
    tx.commit().await?;
    Ok(marked)
}

async fn mark(conn: &mut PgConnection, seqs: &[i64]) -> Result<u64, StorageError> {
    let query = match seqs {
        [seq] => query(conn, MARK_ONE_PROCESSED).bind(*seq),
        _ => query(conn, MARK_PROCESSED).bind(seqs),
    };
    let row = query.fetch_one(conn).await?;
    Reader::new(&row, "inbox").unsigned("marked")
}

pub(super) async fn record_attempt(
    conn: &mut PgConnection,
    attempt: &Attempt<'_>,
) -> Result<bool, StorageError> {
    let (sql, delay) = match attempt.verdict {
        Verdict::Retry(delay) => (RETRY, Some(millis(delay))),
        Verdict::Dead => (DEAD, None),
        Verdict::DeadAfterEnd => (DEAD_AFTER_END, None),
    };
    let mut query = query(conn, sql).bind(attempt.seq).bind(i64::from(attempt.count)).bind(attempt.error);
    if !matches!(attempt.verdict, Verdict::DeadAfterEnd) {
        let fence = attempt.fence;
        query = query.bind(&fence.name).bind(fence.owner).bind(fence.epoch);
    }
    if delay.is_some() {
        query = query.bind(delay);
    }
    Ok(execute(conn, query).await? > 0)
}
