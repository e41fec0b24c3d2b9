//! The inbox table as the processor sees it.

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::row::{self, Reader, except, inbox_columns, json, literal, millis, short, with_numbers, without};
use crate::storage::{Attempt, InboxQuery, InboxRow, StorageError, Verdict};

/// One seek a shard; the answer keeps the order of the question. The limit keeps the optimizer from joining.
pub(super) const READY: &str = "SELECT asked.shard FROM JSON_TABLE(?, '$[*]' \
    COLUMNS (place FOR ORDINALITY, shard INT PATH '$[0]', low BIGINT PATH '$[1]')) AS asked \
    WHERE (SELECT 1 FROM inbox FORCE INDEX (inbox_pending) WHERE inbox.subscription = ? \
    AND inbox.shard = asked.shard AND inbox.status = 'pending' AND inbox.seq > asked.low LIMIT 1) = 1 \
    ORDER BY asked.place";

/// Blocked sessions are left out here and not by the reader, so that any number of their rows hides no other.
const READ: &str = concat!(
    "SELECT ",
    inbox_columns!(),
    " FROM inbox FORCE INDEX (inbox_pending) ",
    "WHERE subscription = {subscription} AND shard = {shard} AND status = 'pending' AND seq > {after}",
    "{without}{except} ORDER BY seq LIMIT {limit}"
);

/// A row that a zombie holds fails this soon, and is left to the next look (rule 3): the shortest wait there is.
pub(super) const MARK_PROCESSED: &str = concat!(
    "SET @distributed_events_wait = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = 1; ",
    "UPDATE inbox FORCE INDEX (PRIMARY) SET status = 'processed', marked_by = CONNECTION_ID(), processed_at = ",
    now!(),
    " WHERE status = 'pending' AND seq IN ({numbers}); ",
    "SET innodb_lock_wait_timeout = @distributed_events_wait"
);

/// Only the holder of the lease may write what became of an attempt (rule 4).
macro_rules! fenced {
    () => {
        " WHERE seq = ? AND status = 'pending' AND EXISTS ( \
            SELECT 1 FROM distributed_events_leases WHERE name = ? AND owner = ? AND epoch = ?)"
    };
}

pub(super) const RETRY: &str = concat!(
    "UPDATE inbox FORCE INDEX (PRIMARY) SET attempts = greatest(attempts + ?, 0), last_error = coalesce(?, last_error), next_attempt_at = ",
    now!(),
    " + ?",
    fenced!()
);

pub(super) const DEAD: &str = concat!(
    "UPDATE inbox FORCE INDEX (PRIMARY) SET attempts = greatest(attempts + ?, 0), last_error = coalesce(?, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    fenced!()
);

pub(super) const DEAD_AFTER_END: &str = concat!(
    "UPDATE inbox FORCE INDEX (PRIMARY) SET attempts = greatest(attempts + ?, 0), last_error = coalesce(?, last_error), status = 'dead', ",
    "processed_at = ",
    now!(),
    " WHERE seq = ? AND status IN ('pending', 'processed')"
);

pub(super) async fn ready_shards(
    conn: &mut MySqlConnection,
    subscription: &str,
    shards: &[(u8, i64)],
) -> Result<Vec<u8>, StorageError> {
    let rows = sqlx::query(READY).bind(json(shards)?).bind(subscription).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let shard = Reader::new(row, "inbox").number("shard")?;
            u8::try_from(shard).map_err(|error| row::corrupt("inbox", &error))
        })
        .collect()
}

pub(super) async fn read(
    conn: &mut MySqlConnection,
    query: &InboxQuery<'_>,
) -> Result<Vec<InboxRow>, StorageError> {
    let rows = sqlx::raw_sql(AssertSqlSafe(read_sql(query))).fetch_all(conn).await?;
    rows.iter().map(row::inbox_row).collect()
}

/// In the text protocol one statement of any shape is one round trip.
pub(super) fn read_sql(query: &InboxQuery<'_>) -> String {
    READ.replace("{shard}", &query.shard.to_string())
        .replace("{after}", &query.after.to_string())
        .replace("{limit}", &query.limit.to_string())
        .replace("{without}", &without(query.blocked))
        .replace("{except}", &except(query.except))
        .replace("{subscription}", &literal(query.subscription))
}

pub(super) async fn mark_processed(conn: &mut MySqlConnection, seqs: &[i64]) -> Result<u64, StorageError> {
    let sql = AssertSqlSafe(with_numbers(MARK_PROCESSED, seqs));
    match sqlx::raw_sql(sql).execute(&mut *conn).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => {
            if matches!(error, sqlx::Error::Database(_)) {
                // What came after it was not run.
                let wait = "SET innodb_lock_wait_timeout = @distributed_events_wait";
                sqlx::raw_sql(wait).execute(conn).await?;
            }
            Err(error.into())
        }
    }
}

pub(super) async fn record_attempt(
    conn: &mut MySqlConnection,
    attempt: &Attempt<'_>,
) -> Result<bool, StorageError> {
    let (sql, delay) = match attempt.verdict {
        Verdict::Retry(delay) => (RETRY, Some(millis(delay))),
        Verdict::Dead => (DEAD, None),
        Verdict::DeadAfterEnd => (DEAD_AFTER_END, None),
    };
    let mut query = sqlx::query(sql).bind(i64::from(attempt.count)).bind(attempt.error.map(short));
    if delay.is_some() {
        query = query.bind(delay);
    }
    query = query.bind(attempt.seq);
    if !matches!(attempt.verdict, Verdict::DeadAfterEnd) {
        let fence = attempt.fence;
        query = query.bind(&fence.name).bind(fence.owner.as_bytes().to_vec()).bind(fence.epoch);
    }
    Ok(query.execute(conn).await?.rows_affected() > 0)
}
