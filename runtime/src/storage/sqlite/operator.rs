//! What operators ask beside the counts. Lists are read along the indexes that the loops read along, settled rows as a
//! range of time.

use std::time::SystemTime;

use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, SqliteConnection};

use super::outbox::id_bytes;
use super::pool::named;
use super::row::{Reader, from_millis, json_numbers, to_duration, to_millis};
use super::{migrate, operator_rows, related};
use crate::envelope::EventId;
use crate::storage::operator::{LAST_NAME, start_of};
use crate::storage::row_reading;
use crate::storage::{
    Instance, InstanceStatus, LeaseStatus, OperatorStorage, RelatedRow, RowDetail, RowFilter, RowState,
    RowSummary, StorageError, Table, Throughput,
};

/// What every list may be narrowed by, beside the range that its index is read in.
macro_rules! filters {
    ($owner:literal, $time:literal) => {
        concat!(
            " AND (?1 IS NULL OR ",
            $owner,
            " = ?1) AND (?2 IS NULL OR event_type = ?2) AND (?3 IS NULL OR session_id = ?3) ",
            "AND (?4 IS NULL OR instr(last_error, ?4) > 0) AND ",
            $time,
            " >= ?5 AND (?6 IS NULL OR ",
            $time,
            " < ?6) "
        )
    };
}

pub(super) const OUTBOX_PENDING: &str = concat!(
    operator_rows::outbox_summary!("0"),
    " FROM outbox INDEXED BY outbox_pending WHERE status = 'pending' AND deliver_at IS NULL ",
    "AND (lane, seq) > (?7, ?9) AND lane <= coalesce(?1, ?11)",
    filters!("lane", "created_at"),
    "ORDER BY lane, seq LIMIT ?10"
);

pub(super) const OUTBOX_DELAYED: &str = concat!(
    operator_rows::outbox_summary!("deliver_at"),
    " FROM outbox INDEXED BY outbox_due WHERE status = 'pending' AND deliver_at IS NOT NULL ",
    "AND (lane, deliver_at, seq) > (?7, ?8, ?9) AND lane <= coalesce(?1, ?11)",
    filters!("lane", "created_at"),
    "ORDER BY lane, deliver_at, seq LIMIT ?10"
);

pub(super) const OUTBOX_DEAD: &str = concat!(
    operator_rows::outbox_summary!("0"),
    " FROM outbox INDEXED BY outbox_dead WHERE status = 'dead' AND seq > ?9",
    filters!("lane", "created_at"),
    "ORDER BY seq LIMIT ?10"
);

pub(super) const OUTBOX_SETTLED: &str = concat!(
    operator_rows::outbox_summary!("processed_at"),
    " FROM outbox INDEXED BY outbox_sent WHERE status = 'sent' AND processed_at <= ?8 ",
    "AND (processed_at < ?8 OR seq < ?9)",
    filters!("lane", "processed_at"),
    "ORDER BY processed_at DESC, seq DESC LIMIT ?10"
);

pub(super) const INBOX_PENDING: &str = concat!(
    operator_rows::inbox_summary!("shard"),
    " FROM inbox INDEXED BY inbox_pending WHERE status = 'pending' ",
    "AND (subscription, shard, seq) > (?7, ?8, ?9) AND subscription <= coalesce(?1, ?11)",
    filters!("subscription", "received_at"),
    "ORDER BY subscription, shard, seq LIMIT ?10"
);

pub(super) const INBOX_DEAD: &str = concat!(
    operator_rows::inbox_summary!("0"),
    " FROM inbox INDEXED BY inbox_dead WHERE status = 'dead' AND seq > ?9",
    filters!("subscription", "received_at"),
    "ORDER BY seq LIMIT ?10"
);

pub(super) const INBOX_SETTLED: &str = concat!(
    operator_rows::inbox_summary!("processed_at"),
    " FROM inbox INDEXED BY inbox_processed WHERE status = 'processed' AND processed_at <= ?8 ",
    "AND (processed_at < ?8 OR seq < ?9)",
    filters!("subscription", "processed_at"),
    "ORDER BY processed_at DESC, seq DESC LIMIT ?10"
);

pub(super) const OUTBOX_ROW: &str =
    concat!(operator_rows::outbox_detail!(), " FROM outbox INDEXED BY outbox_id WHERE id = ?1");

pub(super) const INBOX_ROW: &str = concat!(
    operator_rows::inbox_detail!(),
    " FROM inbox INDEXED BY inbox_id WHERE subscription = ?2 AND id = ?1"
);

/// Bytes come after every text, and can't be a subscription's name.
pub(super) const NEXT_SUBSCRIPTION: &str = "SELECT subscription FROM inbox INDEXED BY inbox_id \
    WHERE subscription > CAST(?1 AS TEXT) AND subscription < x'' ORDER BY subscription LIMIT 1";

const LEASES: &str = concat!(
    "SELECT name, owner, epoch, iif(owner IS NOT NULL AND until > ",
    now!(),
    ", until - ",
    now!(),
    ", NULL) AS remaining, unclean, broker FROM distributed_events_leases ORDER BY name"
);

const INSTANCES: &str = concat!(
    "SELECT id, handles, until - ",
    now!(),
    " AS remaining FROM distributed_events_instances WHERE until > ",
    now!(),
    " AND until <= ",
    now!(),
    " + 2 * lasts ORDER BY id"
);

/// The count reads nothing but the index; the waits are those of the last hundred rows.
pub(super) const OUTBOX_THROUGHPUT: &str = "SELECT settled, reached, mean_lag, longest_lag FROM \
    (SELECT count(*) AS settled, max(processed_at) AS reached FROM (SELECT processed_at FROM outbox INDEXED BY outbox_sent \
    WHERE status = 'sent' AND processed_at >= ?1 AND processed_at < ?2 ORDER BY processed_at LIMIT ?3)), \
    (SELECT CAST(avg(lag) AS INTEGER) AS mean_lag, max(lag) AS longest_lag FROM ( \
    SELECT processed_at - max(created_at, coalesce(deliver_at, created_at)) AS lag FROM outbox INDEXED BY outbox_sent \
    WHERE status = 'sent' AND processed_at >= ?1 AND processed_at < ?2 ORDER BY processed_at DESC LIMIT 100))";

pub(super) const INBOX_THROUGHPUT: &str = "SELECT settled, reached, mean_lag, longest_lag FROM \
    (SELECT count(*) AS settled, max(processed_at) AS reached FROM (SELECT processed_at FROM inbox INDEXED BY inbox_processed \
    WHERE status = 'processed' AND processed_at >= ?1 AND processed_at < ?2 ORDER BY processed_at LIMIT ?3)), \
    (SELECT CAST(avg(lag) AS INTEGER) AS mean_lag, max(lag) AS longest_lag FROM ( \
    SELECT processed_at - received_at AS lag FROM inbox INDEXED BY inbox_processed \
    WHERE status = 'processed' AND processed_at >= ?1 AND processed_at < ?2 ORDER BY processed_at DESC LIMIT 100))";

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND_BETWEEN: &str = "UPDATE outbox INDEXED BY outbox_sent SET status = 'pending', attempts = 0, \
    next_attempt_at = NULL, processed_at = NULL, deliver_at = NULL \
    WHERE status = 'sent' AND processed_at >= ?1 AND processed_at < ?2 AND (?3 IS NULL OR event_type = ?3)";

pub(super) const REPLAY: &str = "UPDATE inbox NOT INDEXED SET status = 'pending', attempts = 0, processed_at = NULL, \
    next_attempt_at = NULL WHERE status = 'processed' AND (event_data IS NOT NULL OR raw IS NOT NULL) \
    AND seq IN (SELECT value FROM json_each(?1))";

/// The statement that lists a table's rows in a state; there are no delayed rows in the inbox.
pub(super) const fn list_sql(table: Table, state: RowState) -> Option<&'static str> {
    match (table, state) {
        (Table::Outbox, RowState::Pending) => Some(OUTBOX_PENDING),
        (Table::Outbox, RowState::Delayed) => Some(OUTBOX_DELAYED),
        (Table::Outbox, RowState::Dead) => Some(OUTBOX_DEAD),
        (Table::Outbox, RowState::Settled) => Some(OUTBOX_SETTLED),
        (Table::Inbox, RowState::Pending) => Some(INBOX_PENDING),
        (Table::Inbox, RowState::Delayed) => None,
        (Table::Inbox, RowState::Dead) => Some(INBOX_DEAD),
        (Table::Inbox, RowState::Settled) => Some(INBOX_SETTLED),
    }
}

async fn list(
    conn: &mut SqliteConnection,
    table: Table,
    filter: &RowFilter,
) -> Result<Vec<RowSummary>, StorageError> {
    let Some(sql) = list_sql(table, filter.state) else { return Ok(Vec::new()) };
    let start = start_of(filter);
    let rows = super::query(sql)
        .bind(filter.owner.as_deref())
        .bind(filter.event.as_deref())
        .bind(filter.session.as_deref())
        .bind(filter.error.as_deref())
        .bind(to_millis(filter.since))
        .bind(filter.until.map(to_millis))
        .bind(start.owner)
        .bind(start.rank)
        .bind(start.seq)
        .bind(i64::from(filter.limit))
        .bind(LAST_NAME)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row_reading::summary(&Reader::new(row, table.name()), table)).collect()
}

async fn detail(
    conn: &mut SqliteConnection,
    table: Table,
    id: EventId,
    subscription: &str,
) -> Result<Option<RowDetail>, StorageError> {
    let sql = match table {
        Table::Outbox => OUTBOX_ROW,
        Table::Inbox => INBOX_ROW,
    };
    let row = super::query(sql).bind(id_bytes(id)).bind(subscription).fetch_optional(conn).await?;
    row.as_ref().map(|row| row_reading::detail(&Reader::new(row, table.name()), table)).transpose()
}

fn lease(row: &SqliteRow) -> Result<LeaseStatus, StorageError> {
    let row = Reader::new(row, "distributed_events_leases");
    let is_held = row.get::<Option<Vec<u8>>>("owner")?.is_some();
    Ok(LeaseStatus {
        name: row.get("name")?,
        owner: if is_held { Some(row.uuid("owner")?) } else { None },
        epoch: row.get("epoch")?,
        remaining: row.get::<Option<i64>>("remaining")?.map(to_duration),
        unclean: row.get::<i64>("unclean")? != 0,
        broker: row.get("broker")?,
    })
}

fn instance(row: &SqliteRow) -> Result<InstanceStatus, StorageError> {
    let row = Reader::new(row, "distributed_events_instances");
    let instance = Instance::new(row.uuid("id")?, row.json("handles")?);
    Ok(InstanceStatus { instance, remaining: to_duration(row.get("remaining")?) })
}

async fn throughput(
    conn: &mut SqliteConnection,
    table: Table,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Throughput, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (OUTBOX_THROUGHPUT, "outbox"),
        Table::Inbox => (INBOX_THROUGHPUT, "inbox"),
    };
    let query = super::query(sql).bind(to_millis(since)).bind(to_millis(until)).bind(i64::from(at_most));
    let row = query.fetch_one(conn).await?;
    let row = Reader::new(&row, name);
    let settled = u64::try_from(row.get::<i64>("settled")?).unwrap_or(0);
    let lag = |column| row.get::<Option<i64>>(column).map(|lag: Option<i64>| lag.map(to_duration));
    Ok(Throughput {
        settled,
        reached: row.time_if_any("reached")?.filter(|_| settled >= u64::from(at_most)),
        mean_lag: lag("mean_lag")?,
        longest_lag: lag("longest_lag")?,
    })
}

async fn rows(conn: &mut SqliteConnection, sql: &'static str) -> Result<Vec<SqliteRow>, StorageError> {
    Ok(super::query(sql).fetch_all(conn).await?)
}

impl OperatorStorage for Sqlite {
    fn migration_sql() -> String {
        migrate::whole_sql()
    }

    async fn clock(conn: &mut SqliteConnection) -> Result<SystemTime, StorageError> {
        let row = super::query(concat!("SELECT ", now!(), " AS now")).fetch_one(conn).await?;
        Ok(from_millis(Reader::new(&row, "clock").get("now")?))
    }

    async fn list_rows(
        conn: &mut SqliteConnection,
        table: Table,
        filter: &RowFilter,
    ) -> Result<Vec<RowSummary>, StorageError> {
        let result = list(conn, table, filter).await;
        named(conn, result).await
    }

    async fn outbox_row(conn: &mut SqliteConnection, id: EventId) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Outbox, id, "").await;
        named(conn, result).await
    }

    async fn inbox_row(
        conn: &mut SqliteConnection,
        subscription: &str,
        id: EventId,
    ) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Inbox, id, subscription).await;
        named(conn, result).await
    }

    async fn next_subscription(
        conn: &mut SqliteConnection,
        after: &str,
    ) -> Result<Option<String>, StorageError> {
        let mut after = after.as_bytes().to_vec();
        loop {
            let next = sqlx::query_scalar::<_, Vec<u8>>(NEXT_SUBSCRIPTION).bind(after);
            let found = next.fetch_optional(&mut *conn).await;
            let Some(found) = named(conn, found.map_err(StorageError::from)).await? else { return Ok(None) };
            match String::from_utf8(found) {
                Ok(name) => return Ok(Some(name)),
                // Nor can a text that is none.
                Err(error) => after = error.into_bytes(),
            }
        }
    }

    async fn lease_statuses(conn: &mut SqliteConnection) -> Result<Vec<LeaseStatus>, StorageError> {
        let found = rows(conn, LEASES).await;
        named(conn, found).await?.iter().map(lease).collect()
    }

    async fn live_instances(conn: &mut SqliteConnection) -> Result<Vec<InstanceStatus>, StorageError> {
        let found = rows(conn, INSTANCES).await;
        named(conn, found).await?.iter().map(instance).collect()
    }

    async fn throughput(
        conn: &mut SqliteConnection,
        table: Table,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> Result<Throughput, StorageError> {
        let result = throughput(conn, table, since, until, at_most).await;
        named(conn, result).await
    }

    async fn related(
        conn: &mut SqliteConnection,
        table: Table,
        correlation_id: &str,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> Result<Vec<RelatedRow>, StorageError> {
        let result = related::read(conn, table, correlation_id, since, until, at_most).await;
        named(conn, result).await
    }

    async fn resend_between(
        conn: &mut SqliteConnection,
        since: SystemTime,
        until: SystemTime,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let query = super::query(RESEND_BETWEEN).bind(to_millis(since)).bind(to_millis(until)).bind(event);
        let done = query.execute(&mut *conn).await;
        named(conn, done.map_err(StorageError::from)).await.map(|done| done.rows_affected())
    }

    async fn replay(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let done = super::query(REPLAY).bind(json_numbers(seqs)).execute(&mut *conn).await;
        named(conn, done.map_err(StorageError::from)).await.map(|done| done.rows_affected())
    }
}
