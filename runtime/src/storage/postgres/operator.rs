//! What operators ask beside the counts. Lists are read along the indexes that the loops read along, settled rows as a
//! range of time.

use std::time::SystemTime;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::pool::{execute, fetch_all, named};
use super::row::{Reader, from_millis, to_duration, to_millis};
use super::{migrate, operator_rows, related};
use crate::envelope::EventId;
use crate::storage::operator::{LAST_NAME, start_of};
use crate::storage::row_reading;
use crate::storage::{
    Instance, InstanceStatus, LeaseStatus, OperatorStorage, RelatedRow, RowDetail, RowFilter, RowState,
    RowSummary, StorageError, Table, Throughput,
};

/// An instant from its milliseconds.
macro_rules! instant {
    ($millis:literal) => {
        concat!("('epoch'::timestamptz + ", interval!($millis), ")")
    };
}

/// What every list may be narrowed by, beside the range that its index is read in. Where a subscription is no part of that
/// range it is written so that its key is not taken for one.
macro_rules! filters {
    ($owner:literal, $time:literal) => {
        concat!(
            " AND ($1::text IS NULL OR ",
            $owner,
            " = $1) AND ($2::text IS NULL OR event_type = $2) AND ($3::text IS NULL OR session_id = $3) ",
            "AND ($4::text IS NULL OR strpos(last_error, $4) > 0) AND ",
            $time,
            " >= ",
            instant!("$5::bigint"),
            " AND ($6::bigint IS NULL OR ",
            $time,
            " < ",
            instant!("$6::bigint"),
            // Every statement has all arguments.
            ") AND $7::text IS NOT NULL AND $8::bigint IS NOT NULL AND $9::bigint IS NOT NULL AND $11::text IS NOT NULL "
        )
    };
}

pub(super) const OUTBOX_PENDING: &str = concat!(
    operator_rows::outbox_summary!("0"),
    " FROM outbox WHERE status = 'pending' AND deliver_at IS NULL ",
    "AND (lane, seq) > ($7, $9) AND lane <= coalesce($1, $11)",
    filters!("lane", "created_at"),
    "ORDER BY lane, seq LIMIT $10"
);

pub(super) const OUTBOX_DELAYED: &str = concat!(
    operator_rows::outbox_summary!(operator_rows::place!("deliver_at")),
    " FROM outbox WHERE status = 'pending' AND deliver_at IS NOT NULL AND (lane, deliver_at, seq) > ($7, ",
    "CASE WHEN $8 = 9223372036854775807 THEN 'infinity' ELSE ",
    instant!("$8::bigint"),
    " END, $9) AND lane <= coalesce($1, $11)",
    filters!("lane", "created_at"),
    "ORDER BY lane, deliver_at, seq LIMIT $10"
);

pub(super) const OUTBOX_DEAD: &str = concat!(
    operator_rows::outbox_summary!("0"),
    " FROM outbox WHERE status = 'dead' AND seq > $9",
    filters!("lane", "created_at"),
    "ORDER BY seq LIMIT $10"
);

pub(super) const OUTBOX_SETTLED: &str = concat!(
    operator_rows::outbox_summary!(operator_rows::place!("processed_at")),
    " FROM outbox WHERE status = 'sent' AND processed_at <= ",
    instant!("$8::bigint"),
    " AND (processed_at < ",
    instant!("$8::bigint"),
    " OR seq < $9)",
    filters!("lane", "outbox.processed_at"),
    "ORDER BY outbox.processed_at DESC, seq DESC LIMIT $10"
);

pub(super) const INBOX_PENDING: &str = concat!(
    operator_rows::inbox_summary!("shard"),
    " FROM inbox WHERE status = 'pending' ",
    "AND (subscription, shard, seq) > ($7, $8::bigint, $9) AND subscription <= coalesce($1, $11)",
    filters!("subscription", "received_at"),
    "ORDER BY subscription, shard, seq LIMIT $10"
);

pub(super) const INBOX_DEAD: &str = concat!(
    operator_rows::inbox_summary!("0"),
    " FROM inbox WHERE status = 'dead' AND seq > $9",
    filters!("subscription || ''", "received_at"),
    "ORDER BY seq LIMIT $10"
);

pub(super) const INBOX_SETTLED: &str = concat!(
    operator_rows::inbox_summary!(operator_rows::place!("processed_at")),
    " FROM inbox WHERE status = 'processed' AND processed_at <= ",
    instant!("$8::bigint"),
    " AND (processed_at < ",
    instant!("$8::bigint"),
    " OR seq < $9)",
    filters!("subscription || ''", "inbox.processed_at"),
    "ORDER BY inbox.processed_at DESC, seq DESC LIMIT $10"
);

pub(super) const OUTBOX_ROW: &str =
    concat!(operator_rows::outbox_detail!(), " FROM outbox WHERE id = $1 AND $2::text IS NOT NULL");

pub(super) const INBOX_ROW: &str =
    concat!(operator_rows::inbox_detail!(), " FROM inbox WHERE subscription = $2 AND id = $1");

pub(super) const NEXT_SUBSCRIPTION: &str =
    "SELECT subscription FROM inbox WHERE subscription > $1 ORDER BY subscription LIMIT 1";

const LEASES: &str = concat!(
    "SELECT name, owner, epoch, CASE WHEN owner IS NOT NULL AND until > ",
    now!(),
    " THEN ",
    millis!("until - ", now!()),
    " END AS remaining, unclean, broker FROM distributed_events_leases ORDER BY name"
);

const INSTANCES: &str = concat!(
    "SELECT id, handles, ",
    millis!("until - ", now!()),
    " AS remaining FROM distributed_events_instances WHERE until > ",
    now!(),
    " AND until <= ",
    now!(),
    " + ",
    interval!("2 * lasts"),
    " ORDER BY id"
);

/// The count reads nothing but the index, where the table is vacuumed; the waits are those of the last hundred rows.
pub(super) const OUTBOX_THROUGHPUT: &str = concat!(
    "SELECT settled, ",
    millis!("reached"),
    " AS reached, mean_lag, longest_lag FROM (SELECT count(*) AS settled, max(processed_at) AS reached FROM ",
    "(SELECT processed_at FROM outbox WHERE status = 'sent' AND processed_at >= ",
    instant!("$1::bigint"),
    " AND processed_at < ",
    instant!("$2::bigint"),
    " ORDER BY processed_at LIMIT $3) AS first) AS counted, (SELECT ",
    millis!("avg(lag)"),
    " AS mean_lag, ",
    millis!("max(lag)"),
    " AS longest_lag FROM (SELECT CASE WHEN isfinite(greatest(created_at, deliver_at)) THEN processed_at - greatest(created_at, deliver_at) END AS lag FROM outbox ",
    "WHERE status = 'sent' AND processed_at >= ",
    instant!("$1::bigint"),
    " AND processed_at < ",
    instant!("$2::bigint"),
    " ORDER BY processed_at DESC LIMIT 100) AS last) AS waits"
);

pub(super) const INBOX_THROUGHPUT: &str = concat!(
    "SELECT settled, ",
    millis!("reached"),
    " AS reached, mean_lag, longest_lag FROM (SELECT count(*) AS settled, max(processed_at) AS reached FROM ",
    "(SELECT processed_at FROM inbox WHERE status = 'processed' AND processed_at >= ",
    instant!("$1::bigint"),
    " AND processed_at < ",
    instant!("$2::bigint"),
    " ORDER BY processed_at LIMIT $3) AS first) AS counted, (SELECT ",
    millis!("avg(lag)"),
    " AS mean_lag, ",
    millis!("max(lag)"),
    " AS longest_lag FROM (SELECT CASE WHEN isfinite(received_at) THEN processed_at - received_at END AS lag FROM inbox ",
    "WHERE status = 'processed' AND processed_at >= ",
    instant!("$1::bigint"),
    " AND processed_at < ",
    instant!("$2::bigint"),
    " ORDER BY processed_at DESC LIMIT 100) AS last) AS waits"
);

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND_BETWEEN: &str = concat!(
    "UPDATE outbox SET status = 'pending', attempts = 0, next_attempt_at = NULL, processed_at = NULL, ",
    "deliver_at = NULL WHERE status = 'sent' AND processed_at >= ",
    instant!("$1::bigint"),
    " AND processed_at < ",
    instant!("$2::bigint"),
    " AND ($3::text IS NULL OR event_type = $3)"
);

/// The state is written so that single rows are found by seq, and no index of what is processed is read.
pub(super) const REPLAY: &str = "UPDATE inbox SET status = 'pending', attempts = 0, processed_at = NULL, \
    next_attempt_at = NULL WHERE status || '' = 'processed' AND (event_data IS NOT NULL OR raw IS NOT NULL) \
    AND seq + 0 = ANY($1)";

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

/// Planned anew each time: a plan that serves every argument may take a key's index, and with it all that is retained.
fn asked(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

async fn list(
    conn: &mut PgConnection,
    table: Table,
    filter: &RowFilter,
) -> Result<Vec<RowSummary>, StorageError> {
    let Some(sql) = list_sql(table, filter.state) else { return Ok(Vec::new()) };
    let start = start_of(filter);
    let query = asked(sql)
        .bind(filter.owner.clone())
        .bind(filter.event.clone())
        .bind(filter.session.clone())
        .bind(filter.error.clone())
        .bind(to_millis(filter.since))
        .bind(filter.until.map(to_millis))
        .bind(start.owner)
        .bind(start.rank)
        .bind(start.seq)
        .bind(i64::from(filter.limit))
        .bind(LAST_NAME);
    fetch_all(conn, query)
        .await?
        .iter()
        .map(|row| row_reading::summary(&Reader::new(row, table.name()), table))
        .collect()
}

async fn detail(
    conn: &mut PgConnection,
    table: Table,
    id: EventId,
    subscription: &str,
) -> Result<Option<RowDetail>, StorageError> {
    let sql = match table {
        Table::Outbox => OUTBOX_ROW,
        Table::Inbox => INBOX_ROW,
    };
    let query = asked(sql).bind(id.as_uuid()).bind(subscription);
    fetch_all(conn, query)
        .await?
        .first()
        .map(|row| row_reading::detail(&Reader::new(row, table.name()), table))
        .transpose()
}

fn lease(row: &PgRow) -> Result<LeaseStatus, StorageError> {
    let row = Reader::new(row, "distributed_events_leases");
    Ok(LeaseStatus {
        name: row.get("name")?,
        owner: row.get("owner")?,
        epoch: row.get("epoch")?,
        remaining: row.get::<Option<i64>>("remaining")?.map(to_duration),
        unclean: row.get("unclean")?,
        broker: row.get("broker")?,
    })
}

fn instance(row: &PgRow) -> Result<InstanceStatus, StorageError> {
    let row = Reader::new(row, "distributed_events_instances");
    let instance = Instance::new(row.get("id")?, row.json("handles")?);
    Ok(InstanceStatus { instance, remaining: to_duration(row.get("remaining")?) })
}

async fn throughput(
    conn: &mut PgConnection,
    table: Table,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Throughput, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (OUTBOX_THROUGHPUT, "outbox"),
        Table::Inbox => (INBOX_THROUGHPUT, "inbox"),
    };
    let query = asked(sql).bind(to_millis(since)).bind(to_millis(until)).bind(i64::from(at_most));
    let rows = fetch_all(conn, query).await?;
    let Some(row) = rows.first() else { return Ok(Throughput::default()) };
    let row = Reader::new(row, name);
    let settled = row.unsigned("settled")?;
    let lag = |column| row.get::<Option<i64>>(column).map(|lag: Option<i64>| lag.map(to_duration));
    Ok(Throughput {
        settled,
        reached: row.time_if_any("reached")?.filter(|_| settled >= u64::from(at_most)),
        mean_lag: lag("mean_lag")?,
        longest_lag: lag("longest_lag")?,
    })
}

async fn rows(conn: &mut PgConnection, sql: &'static str) -> Result<Vec<PgRow>, StorageError> {
    let query = asked(sql);
    fetch_all(conn, query).await
}

impl OperatorStorage for Postgres {
    fn migration_sql() -> String {
        migrate::whole_sql()
    }

    async fn clock(conn: &mut PgConnection) -> Result<SystemTime, StorageError> {
        let found = rows(conn, concat!("SELECT ", millis!(now!()), " AS now")).await?;
        let Some(row) = found.first() else { return Err(sqlx::Error::RowNotFound.into()) };
        Reader::new(row, "the server's clock").get("now").map(from_millis)
    }

    async fn list_rows(
        conn: &mut PgConnection,
        table: Table,
        filter: &RowFilter,
    ) -> Result<Vec<RowSummary>, StorageError> {
        let result = list(conn, table, filter).await;
        named(conn, result).await
    }

    async fn outbox_row(conn: &mut PgConnection, id: EventId) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Outbox, id, "").await;
        named(conn, result).await
    }

    async fn inbox_row(
        conn: &mut PgConnection,
        subscription: &str,
        id: EventId,
    ) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Inbox, id, subscription).await;
        named(conn, result).await
    }

    async fn next_subscription(conn: &mut PgConnection, after: &str) -> Result<Option<String>, StorageError> {
        let query = asked(NEXT_SUBSCRIPTION).bind(after);
        let found = fetch_all(conn, query).await;
        let found = named(conn, found).await?;
        found.first().map(|row| Reader::new(row, "inbox").get("subscription")).transpose()
    }

    async fn lease_statuses(conn: &mut PgConnection) -> Result<Vec<LeaseStatus>, StorageError> {
        let found = rows(conn, LEASES).await;
        named(conn, found).await?.iter().map(lease).collect()
    }

    async fn live_instances(conn: &mut PgConnection) -> Result<Vec<InstanceStatus>, StorageError> {
        let found = rows(conn, INSTANCES).await;
        named(conn, found).await?.iter().map(instance).collect()
    }

    async fn throughput(
        conn: &mut PgConnection,
        table: Table,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> Result<Throughput, StorageError> {
        let result = throughput(conn, table, since, until, at_most).await;
        named(conn, result).await
    }

    async fn related(
        conn: &mut PgConnection,
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
        conn: &mut PgConnection,
        since: SystemTime,
        until: SystemTime,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let query = asked(RESEND_BETWEEN).bind(to_millis(since)).bind(to_millis(until)).bind(event);
        let done = execute(conn, query).await;
        named(conn, done).await
    }

    async fn replay(conn: &mut PgConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let query = asked(REPLAY).bind(seqs);
        let done = execute(conn, query).await;
        named(conn, done).await
    }
}
