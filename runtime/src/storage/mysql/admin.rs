//! What operators ask of the tables, and what retention takes.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::row::{Reader, literal, millis, to_duration, with_numbers};
use crate::storage::row_reading;
use crate::storage::{
    DeadRow, DeadRowFilter, InboxCounts, OutboxCounts, Retention, StateCounts, StorageError, Table,
};

/// Only entries of open rows are counted, in an index that holds all that is asked; the oldest row is then looked up by
/// its seq. A delayed row waits since it became due.
pub(super) const COUNT_OUTBOX: &str = concat!(
    "SELECT owner, pending, 0 AS dead, ",
    now!(),
    " - (SELECT created_at FROM outbox AS oldest WHERE oldest.seq = first_seq) AS waited ",
    "FROM (SELECT lane AS owner, count(*) AS pending, min(seq) AS first_seq FROM outbox FORCE INDEX (outbox_pending) ",
    "WHERE status = 'pending' AND deliver_at IS NULL GROUP BY lane) AS waiting ",
    "UNION ALL SELECT lane, count(*), 0, if(min(deliver_at) <= ",
    now!(),
    ", ",
    now!(),
    " - min(deliver_at), NULL) ",
    "FROM outbox FORCE INDEX (outbox_pending) WHERE status = 'pending' AND deliver_at IS NOT NULL GROUP BY lane ",
    "UNION ALL SELECT lane, 0, count(*), NULL FROM outbox FORCE INDEX (outbox_pending) WHERE status = 'dead' ",
    "GROUP BY lane"
);

pub(super) const COUNT_INBOX: &str = concat!(
    "SELECT owner, pending, 0 AS dead, ",
    now!(),
    " - (SELECT received_at FROM inbox AS oldest WHERE oldest.seq = first_seq) AS waited ",
    "FROM (SELECT subscription AS owner, count(*) AS pending, min(seq) AS first_seq FROM inbox ",
    "FORCE INDEX (inbox_pending) WHERE status = 'pending' GROUP BY subscription) AS waiting ",
    "UNION ALL SELECT subscription, 0, count(*), NULL FROM inbox FORCE INDEX (inbox_pending) WHERE status = 'dead' ",
    "GROUP BY subscription"
);

const COUNT_OWED: &str =
    "SELECT subscription, count(*) AS owed FROM distributed_events_owed GROUP BY subscription";

pub(super) const DEAD_OUTBOX: &str = "SELECT seq, id, lane AS owner, event_type, session_id, attempts, \
    last_error AS error, CAST(event_data AS BINARY) AS data, \
    created_at AS written_at FROM outbox FORCE INDEX (outbox_dead) WHERE status = 'dead' AND seq > ? \
    AND (? IS NULL OR lane = ?) AND (? IS NULL OR event_type = ?) ORDER BY seq LIMIT ?";

pub(super) const DEAD_INBOX: &str = "SELECT seq, id, subscription AS owner, event_type, session_id, attempts, \
    last_error AS error, coalesce(CAST(event_data AS BINARY), raw) AS data, received_at AS written_at FROM inbox FORCE INDEX (inbox_dead) \
    WHERE status = 'dead' AND seq > ? AND (? IS NULL OR subscription = ?) AND (? IS NULL OR event_type = ?) \
    ORDER BY seq LIMIT ?";

/// With a delay it is a delayed row from then on, outside the pending scan, and blocks nobody.
pub(super) const REQUEUE_OUTBOX: &str = concat!(
    "UPDATE outbox FORCE INDEX (PRIMARY) SET status = 'pending', attempts = 0, next_attempt_at = NULL, ",
    "processed_at = NULL, last_error = {noted}, deliver_at = if({delay} > 0, ",
    now!(),
    " + {delay}, NULL) WHERE status = 'dead' AND seq IN ({numbers})"
);

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND: &str = concat!(
    "UPDATE outbox FORCE INDEX (outbox_sent) SET status = 'pending', attempts = 0, next_attempt_at = NULL, ",
    "processed_at = NULL, deliver_at = NULL WHERE status = 'sent' AND processed_at >= ",
    now!(),
    " - ? AND (? IS NULL OR event_type = ?)"
);

pub(super) const REQUEUE_INBOX: &str = concat!(
    "UPDATE inbox FORCE INDEX (PRIMARY) SET status = 'pending', attempts = 0, processed_at = NULL, ",
    "last_error = {noted}, next_attempt_at = if({delay} > 0, ",
    now!(),
    " + {delay}, NULL) WHERE status = 'dead' AND seq IN ({numbers})"
);

/// Of several tables in form only: the other form takes no index.
pub(super) const DISCARD_OUTBOX: &str =
    "DELETE outbox FROM outbox FORCE INDEX (PRIMARY) WHERE status = 'dead' AND seq IN ({numbers})";

pub(super) const DISCARD_INBOX: &str = concat!(
    "UPDATE inbox FORCE INDEX (PRIMARY) SET status = 'discarded', last_error = {noted}, processed_at = ",
    now!(),
    " WHERE status = 'dead' AND seq IN ({numbers})"
);

/// The rows that retention takes next. Chosen first, because an order and an index can be had in a SELECT alone, and by a
/// statement of its own, because as a part of another one it would lock what it reads.
pub(super) const OLD_OUTBOX: &str = concat!(
    "SELECT seq FROM outbox FORCE INDEX (outbox_sent) WHERE status = 'sent' AND processed_at <= ",
    now!(),
    " - {older} ORDER BY processed_at LIMIT {limit}"
);

/// A part of the index for each state, since an order runs through one part only.
pub(super) const OLD_BODIES: &str = concat!(
    "(SELECT seq FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 1 ",
    "AND processed_at <= ",
    now!(),
    " - {older} ORDER BY processed_at LIMIT {limit}) UNION ALL ",
    "(SELECT seq FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'discarded' AND has_body = 1 ",
    "AND processed_at <= ",
    now!(),
    " - {older} ORDER BY processed_at LIMIT {limit}) LIMIT {limit}"
);

pub(super) const OLD_INBOX: &str = concat!(
    "(SELECT seq FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 0 ",
    "AND processed_at <= ",
    now!(),
    " - {older} ORDER BY processed_at LIMIT {limit}) UNION ALL ",
    "(SELECT seq FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 1 ",
    "AND processed_at <= ",
    now!(),
    " - {older} ORDER BY processed_at LIMIT {limit}) LIMIT {limit}"
);

pub(super) const PURGE_OUTBOX: &str =
    "DELETE outbox FROM outbox FORCE INDEX (PRIMARY) WHERE status = 'sent' AND seq IN ({numbers})";

pub(super) const PURGE_BODIES: &str = "UPDATE inbox FORCE INDEX (PRIMARY) \
    SET event_data = NULL, raw = NULL, has_body = 0 \
    WHERE status IN ('processed', 'discarded') AND has_body = 1 AND seq IN ({numbers})";

pub(super) const PURGE_INBOX: &str =
    "DELETE inbox FROM inbox FORCE INDEX (PRIMARY) WHERE status = 'processed' AND seq IN ({numbers})";

pub(super) async fn count_outbox(conn: &mut MySqlConnection) -> Result<OutboxCounts, StorageError> {
    let rows = sqlx::query(COUNT_OUTBOX).fetch_all(&mut *conn).await?;
    let lanes = counts(&rows, "outbox")?;
    let mut owed = BTreeMap::new();
    for row in &sqlx::query(COUNT_OWED).fetch_all(conn).await? {
        let row = Reader::new(row, "distributed_events_owed");
        owed.insert(row.get("subscription")?, unsigned(row.get("owed")?));
    }
    Ok(OutboxCounts { lanes, owed })
}

pub(super) async fn count_inbox(conn: &mut MySqlConnection) -> Result<InboxCounts, StorageError> {
    let rows = sqlx::query(COUNT_INBOX).fetch_all(conn).await?;
    Ok(InboxCounts { subscriptions: counts(&rows, "inbox")? })
}

fn counts(rows: &[MySqlRow], table: &'static str) -> Result<BTreeMap<String, StateCounts>, StorageError> {
    let mut counts: BTreeMap<String, StateCounts> = BTreeMap::new();
    for row in rows {
        let row = Reader::new(row, table);
        let entry = counts.entry(row.get("owner")?).or_default();
        entry.pending += unsigned(row.get("pending")?);
        entry.dead += unsigned(row.get("dead")?);
        entry.oldest_pending = entry.oldest_pending.max(row.get::<Option<i64>>("waited")?.map(to_duration));
    }
    Ok(counts)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) async fn dead_rows(
    conn: &mut MySqlConnection,
    table: Table,
    filter: &DeadRowFilter,
) -> Result<Vec<DeadRow>, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (DEAD_OUTBOX, "outbox"),
        Table::Inbox => (DEAD_INBOX, "inbox"),
    };
    let rows = sqlx::query(sql)
        .bind(filter.after)
        .bind(filter.owner.as_deref())
        .bind(filter.owner.as_deref())
        .bind(filter.event.as_deref())
        .bind(filter.event.as_deref())
        .bind(i64::from(filter.limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row_reading::dead_row(&Reader::new(row, name), table)).collect()
}

pub(super) async fn requeue(
    conn: &mut MySqlConnection,
    table: Table,
    seqs: &[i64],
    delay: Duration,
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let sql = match table {
        Table::Outbox => REQUEUE_OUTBOX,
        Table::Inbox => REQUEUE_INBOX,
    };
    let sql = with_numbers(sql, seqs).replace("{delay}", &millis(delay).to_string());
    let sql = sql.replace("{noted}", &noted(note));
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?.rows_affected())
}

pub(super) async fn resend(
    conn: &mut MySqlConnection,
    within: Duration,
    event: Option<&str>,
) -> Result<u64, StorageError> {
    let query = sqlx::query(RESEND).bind(millis(within)).bind(event).bind(event);
    Ok(query.execute(conn).await?.rows_affected())
}

pub(super) async fn discard(
    conn: &mut MySqlConnection,
    table: Table,
    seqs: &[i64],
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let sql = match table {
        Table::Outbox => DISCARD_OUTBOX,
        Table::Inbox => DISCARD_INBOX,
    };
    let sql = with_numbers(sql, seqs).replace("{noted}", &noted(note));
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?.rows_affected())
}

/// The last error with a note as a line of its own.
fn noted(note: Option<&str>) -> String {
    let note = note.map(literal);
    note.map_or_else(
        || "last_error".to_owned(),
        |note| format!("concat_ws('\n', nullif(last_error, ''), {note})"),
    )
}

pub(super) async fn purge(conn: &mut MySqlConnection, retention: &Retention) -> Result<u64, StorageError> {
    let (old, sql, older_than, limit) = match *retention {
        Retention::Outbox { older_than, limit } => (OLD_OUTBOX, PURGE_OUTBOX, older_than, limit),
        Retention::InboxBodies { older_than, limit } => (OLD_BODIES, PURGE_BODIES, older_than, limit),
        Retention::InboxRows { older_than, limit } => (OLD_INBOX, PURGE_INBOX, older_than, limit),
    };
    let old = old.replace("{older}", &millis(older_than).to_string()).replace("{limit}", &limit.to_string());
    let rows = sqlx::raw_sql(AssertSqlSafe(old)).fetch_all(&mut *conn).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let seqs = rows
        .iter()
        .map(|row| Reader::new(row, "outbox or inbox").get("seq"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(sqlx::raw_sql(AssertSqlSafe(with_numbers(sql, &seqs))).execute(conn).await?.rows_affected())
}
