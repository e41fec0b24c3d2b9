//! What operators ask of the tables, and what retention takes.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::pool::{execute, fetch_all, query};
use super::row::{Reader, millis, to_duration};
use crate::storage::row_reading;
use crate::storage::{
    DeadRow, DeadRowFilter, InboxCounts, OutboxCounts, Retention, StateCounts, StorageError, Table,
};

/// The last error with a note as a line of its own.
macro_rules! noted {
    ($note:literal) => {
        concat!(
            "last_error = CASE WHEN ",
            $note,
            "::text IS NULL THEN last_error ELSE concat_ws(chr(10), nullif(last_error, ''), ",
            $note,
            ") END"
        )
    };
}

/// Only indexes of open rows are counted, each one whole; the oldest row is then looked up by its seq. A delayed row waits
/// since it became due.
pub(super) const COUNT_OUTBOX: &str = concat!(
    "SELECT owner, pending, 0::bigint AS dead, ",
    millis!(
        now!(),
        " - (SELECT created_at FROM outbox AS oldest WHERE oldest.lane = owner AND oldest.seq = first ",
        "AND status = 'pending' AND deliver_at IS NULL AND isfinite(created_at))"
    ),
    " AS waited FROM (SELECT lane AS owner, count(*) AS pending, min(seq) AS first FROM outbox ",
    "WHERE status = 'pending' AND deliver_at IS NULL GROUP BY lane) AS never_delayed ",
    "UNION ALL SELECT lane, count(*), 0, CASE WHEN min(deliver_at) > '-infinity' AND min(deliver_at) <= ",
    now!(),
    " THEN ",
    millis!(now!(), " - min(deliver_at)"),
    " END FROM outbox WHERE status = 'pending' AND deliver_at IS NOT NULL GROUP BY lane ",
    "UNION ALL SELECT lane, 0, count(*), NULL FROM outbox WHERE status = 'dead' GROUP BY lane"
);

pub(super) const COUNT_INBOX: &str = concat!(
    "SELECT owner, pending, 0::bigint AS dead, ",
    millis!(
        now!(),
        " - (SELECT received_at FROM inbox AS oldest WHERE oldest.seq + 0 = first AND isfinite(received_at))"
    ),
    " AS waited FROM (SELECT subscription AS owner, count(*) AS pending, min(seq) AS first FROM inbox ",
    "WHERE status = 'pending' GROUP BY subscription) AS waiting ",
    "UNION ALL SELECT subscription, 0, count(*), NULL FROM inbox WHERE status = 'dead' GROUP BY subscription"
);

const COUNT_OWED: &str =
    "SELECT subscription, count(*) AS owed FROM distributed_events_owed GROUP BY subscription";

pub(super) const DEAD_OUTBOX: &str = concat!(
    "SELECT seq, id, lane AS owner, event_type, session_id, attempts, last_error AS error, ",
    "convert_to(event_data, 'UTF8') AS data, ",
    "created_at AS written_at FROM outbox WHERE status = 'dead' AND seq > $1 ",
    "AND ($2::text IS NULL OR lane = $2) AND ($3::text IS NULL OR event_type = $3) ORDER BY seq LIMIT $4"
);

pub(super) const DEAD_INBOX: &str = concat!(
    "SELECT seq, id, subscription AS owner, event_type, session_id, attempts, last_error AS error, ",
    "coalesce(convert_to(event_data, 'UTF8'), raw) AS data, ",
    "received_at AS written_at FROM inbox WHERE status = 'dead' AND seq > $1 ",
    "AND ($2::text IS NULL OR subscription = $2) AND ($3::text IS NULL OR event_type = $3) ORDER BY seq LIMIT $4"
);

/// With a delay it is a delayed row from then on, outside the pending scan, and blocks nobody.
pub(super) const REQUEUE_OUTBOX: &str = concat!(
    "UPDATE outbox SET status = 'pending', attempts = 0, next_attempt_at = NULL, processed_at = NULL, ",
    noted!("$3"),
    ", deliver_at = CASE WHEN $2 > 0 THEN ",
    now!(),
    " + ",
    interval!("$2"),
    " END WHERE status = 'dead' AND seq = ANY($1)"
);

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND: &str = concat!(
    "UPDATE outbox SET status = 'pending', attempts = 0, next_attempt_at = NULL, processed_at = NULL, ",
    "deliver_at = NULL WHERE status = 'sent' AND processed_at >= ",
    now!(),
    " - ",
    interval!("$1"),
    " AND ($2::text IS NULL OR event_type = $2)"
);

pub(super) const REQUEUE_INBOX: &str = concat!(
    "UPDATE inbox SET status = 'pending', attempts = 0, processed_at = NULL, ",
    noted!("$3"),
    ", next_attempt_at = CASE WHEN $2 > 0 THEN ",
    now!(),
    " + ",
    interval!("$2"),
    " END WHERE status = 'dead' AND seq = ANY($1)"
);

pub(super) const DISCARD_OUTBOX: &str = "DELETE FROM outbox WHERE status = 'dead' AND seq = ANY($1)";

pub(super) const DISCARD_INBOX: &str = concat!(
    "UPDATE inbox SET status = 'discarded', ",
    noted!("$2"),
    ", processed_at = ",
    now!(),
    " WHERE status = 'dead' AND seq = ANY($1)"
);

/// By their places, because the outbox has no index of them by seq; the state is looked at again, since another may have
/// come between.
pub(super) const PURGE_OUTBOX: &str = concat!(
    "DELETE FROM outbox WHERE status = 'sent' AND ctid = ANY(ARRAY(SELECT ctid FROM outbox ",
    "WHERE status = 'sent' AND processed_at <= ",
    now!(),
    " - ",
    interval!("$1"),
    " ORDER BY processed_at LIMIT $2))"
);

pub(super) const PURGE_BODIES: &str = concat!(
    "UPDATE inbox SET event_data = NULL, raw = NULL WHERE status IN ('processed', 'discarded') ",
    "AND (event_data IS NOT NULL OR raw IS NOT NULL) AND ctid = ANY(ARRAY(SELECT ctid FROM inbox ",
    "WHERE status IN ('processed', 'discarded') AND (event_data IS NOT NULL OR raw IS NOT NULL) ",
    "AND processed_at <= ",
    now!(),
    " - ",
    interval!("$1"),
    " ORDER BY processed_at LIMIT $2))"
);

pub(super) const PURGE_INBOX: &str = concat!(
    "DELETE FROM inbox WHERE status = 'processed' AND ctid = ANY(ARRAY(SELECT ctid FROM inbox ",
    "WHERE status = 'processed' AND processed_at <= ",
    now!(),
    " - ",
    interval!("$1"),
    " ORDER BY processed_at LIMIT $2))"
);

pub(super) async fn count_outbox(conn: &mut PgConnection) -> Result<OutboxCounts, StorageError> {
    let (lanes, owes) = (query(conn, COUNT_OUTBOX), query(conn, COUNT_OWED));
    let rows = fetch_all(conn, lanes).await?;
    let lanes = counts(&rows, "outbox")?;
    let mut owed = BTreeMap::new();
    for row in &fetch_all(conn, owes).await? {
        let row = Reader::new(row, "distributed_events_owed");
        owed.insert(row.get("subscription")?, row.unsigned("owed")?);
    }
    Ok(OutboxCounts { lanes, owed })
}

pub(super) async fn count_inbox(conn: &mut PgConnection) -> Result<InboxCounts, StorageError> {
    let query = query(conn, COUNT_INBOX);
    let rows = fetch_all(conn, query).await?;
    Ok(InboxCounts { subscriptions: counts(&rows, "inbox")? })
}

fn counts(rows: &[PgRow], table: &'static str) -> Result<BTreeMap<String, StateCounts>, StorageError> {
    let mut counts: BTreeMap<String, StateCounts> = BTreeMap::new();
    for row in rows {
        let row = Reader::new(row, table);
        let entry = counts.entry(row.get("owner")?).or_default();
        entry.pending += row.unsigned("pending")?;
        entry.dead += row.unsigned("dead")?;
        entry.oldest_pending = entry.oldest_pending.max(row.get::<Option<i64>>("waited")?.map(to_duration));
    }
    Ok(counts)
}

pub(super) async fn dead_rows(
    conn: &mut PgConnection,
    table: Table,
    filter: &DeadRowFilter,
) -> Result<Vec<DeadRow>, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (DEAD_OUTBOX, "outbox"),
        Table::Inbox => (DEAD_INBOX, "inbox"),
    };
    let query = query(conn, sql)
        .bind(filter.after)
        .bind(filter.owner.as_deref())
        .bind(filter.event.as_deref())
        .bind(i64::from(filter.limit));
    fetch_all(conn, query)
        .await?
        .iter()
        .map(|row| row_reading::dead_row(&Reader::new(row, name), table))
        .collect()
}

pub(super) async fn requeue(
    conn: &mut PgConnection,
    table: Table,
    seqs: &[i64],
    delay: Duration,
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let sql = match table {
        Table::Outbox => REQUEUE_OUTBOX,
        Table::Inbox => REQUEUE_INBOX,
    };
    let query = query(conn, sql).bind(seqs).bind(millis(delay)).bind(note.map(str::to_owned));
    execute(conn, query).await
}

pub(super) async fn resend(
    conn: &mut PgConnection,
    within: Duration,
    event: Option<&str>,
) -> Result<u64, StorageError> {
    let query = query(conn, RESEND).bind(millis(within)).bind(event.map(str::to_owned));
    execute(conn, query).await
}

pub(super) async fn discard(
    conn: &mut PgConnection,
    table: Table,
    seqs: &[i64],
    note: Option<&str>,
) -> Result<u64, StorageError> {
    let query = match table {
        // Nothing is left to note it on.
        Table::Outbox => query(conn, DISCARD_OUTBOX).bind(seqs),
        Table::Inbox => query(conn, DISCARD_INBOX).bind(seqs).bind(note.map(str::to_owned)),
    };
    execute(conn, query).await
}

pub(super) async fn purge(conn: &mut PgConnection, retention: &Retention) -> Result<u64, StorageError> {
    let (sql, older_than, limit) = match *retention {
        Retention::Outbox { older_than, limit } => (PURGE_OUTBOX, older_than, limit),
        Retention::InboxBodies { older_than, limit } => (PURGE_BODIES, older_than, limit),
        Retention::InboxRows { older_than, limit } => (PURGE_INBOX, older_than, limit),
    };
    let query = query(conn, sql).bind(millis(older_than)).bind(i64::from(limit));
    execute(conn, query).await
}
