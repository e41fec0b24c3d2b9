//! What operators ask beside the counts. Lists are read along the indexes that the loops read along, settled rows as a
//! range of time.

use std::time::SystemTime;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::operator_rows::{INBOX_ROW, INBOX_SUMMARY, OUTBOX_ROW, OUTBOX_SUMMARY};
use super::pool::named;
use super::row::{Reader, from_millis, id_bytes, literal, to_duration, to_millis, with_numbers};
use super::{migrate, related};
use crate::envelope::EventId;
use crate::storage::operator::{LAST_NAME, start_of};
use crate::storage::row_reading;
use crate::storage::{
    Instance, InstanceStatus, LeaseStatus, OperatorStorage, RelatedRow, RowDetail, RowFilter, RowState,
    RowSummary, StorageError, Table, Throughput,
};

/// Led by the lane, as its index is. Delayed rows stand in the same index and are passed over: an `IS NULL` between two
/// columns of the order would have them sorted.
const OUTBOX_PENDING: &str = " FROM outbox FORCE INDEX (outbox_pending) WHERE status = 'pending' \
    AND coalesce(deliver_at, -1) = -1 AND lane >= {owner} AND lane <= {last} AND (lane > {owner} OR seq > {seq}){filters} \
    ORDER BY lane, deliver_at, seq LIMIT {limit}";

const OUTBOX_DELAYED: &str = " FROM outbox FORCE INDEX (outbox_pending) WHERE status = 'pending' \
    AND deliver_at IS NOT NULL AND lane >= {owner} AND lane <= {last} \
    AND (lane > {owner} OR deliver_at > {at} OR (deliver_at = {at} AND seq > {seq})){filters} \
    ORDER BY lane, deliver_at, seq LIMIT {limit}";

const OUTBOX_DEAD: &str = " FROM outbox FORCE INDEX (outbox_dead) WHERE status = 'dead' AND seq > {seq}{filters} \
    ORDER BY seq LIMIT {limit}";

const OUTBOX_SETTLED: &str = " FROM outbox FORCE INDEX (outbox_sent) WHERE status = 'sent' AND processed_at <= {at} \
    AND (processed_at < {at} OR seq < {seq}){filters} ORDER BY processed_at DESC, seq DESC LIMIT {limit}";

const INBOX_PENDING: &str = " FROM inbox FORCE INDEX (inbox_pending) WHERE status = 'pending' \
    AND subscription >= {owner} AND subscription <= {last} \
    AND (subscription > {owner} OR shard > {at} OR (shard = {at} AND seq > {seq})){filters} \
    ORDER BY subscription, shard, seq LIMIT {limit}";

const INBOX_DEAD: &str = " FROM inbox FORCE INDEX (inbox_dead) WHERE status = 'dead' AND seq > {seq}{filters} \
    ORDER BY seq LIMIT {limit}";

/// One part of the index for rows with a body and one for those without: an order runs through one part only.
const INBOX_SETTLED: &str = " FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = {body} \
    AND processed_at <= {at} AND (processed_at < {at} OR seq < {seq}){filters} \
    ORDER BY processed_at DESC, seq DESC LIMIT {limit}";

pub(super) const NEXT_SUBSCRIPTION: &str = "SELECT subscription FROM inbox FORCE INDEX (inbox_id) \
    WHERE subscription > ? ORDER BY subscription LIMIT 1";

const LEASES: &str = concat!(
    "SELECT name, owner, epoch, if(owner IS NOT NULL AND until > ",
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
    (SELECT count(*) AS settled, max(processed_at) AS reached FROM (SELECT processed_at FROM outbox \
    FORCE INDEX (outbox_sent) WHERE status = 'sent' AND processed_at >= {since} AND processed_at < {until} \
    ORDER BY processed_at LIMIT {at_most}) AS first) AS counted, \
    (SELECT CAST(avg(lag) AS SIGNED) AS mean_lag, CAST(max(lag) AS SIGNED) AS longest_lag FROM ( \
    SELECT processed_at - greatest(created_at, coalesce(deliver_at, created_at)) AS lag \
    FROM outbox FORCE INDEX (outbox_sent) WHERE status = 'sent' \
    AND processed_at >= {since} AND processed_at < {until} ORDER BY processed_at DESC LIMIT 100) AS last) AS waits";

/// One part of the index for rows with a body and one for those without: an order runs through one part only.
pub(super) const INBOX_THROUGHPUT: &str = "SELECT settled, reached, mean_lag, longest_lag FROM \
    (SELECT count(*) AS settled, max(processed_at) AS reached FROM (\
    (SELECT processed_at FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 1 \
    AND processed_at >= {since} AND processed_at < {until} ORDER BY processed_at LIMIT {at_most}) UNION ALL \
    (SELECT processed_at FROM inbox FORCE INDEX (inbox_settled) WHERE status = 'processed' AND has_body = 0 \
    AND processed_at >= {since} AND processed_at < {until} ORDER BY processed_at LIMIT {at_most}) \
    ORDER BY processed_at LIMIT {at_most}) AS first) AS counted, \
    (SELECT CAST(avg(lag) AS SIGNED) AS mean_lag, CAST(max(lag) AS SIGNED) AS longest_lag FROM (\
    (SELECT processed_at, processed_at - received_at AS lag FROM inbox FORCE INDEX (inbox_settled) \
    WHERE status = 'processed' AND has_body = 1 AND processed_at >= {since} AND processed_at < {until} \
    ORDER BY processed_at DESC LIMIT 100) UNION ALL \
    (SELECT processed_at, processed_at - received_at AS lag FROM inbox FORCE INDEX (inbox_settled) \
    WHERE status = 'processed' AND has_body = 0 AND processed_at >= {since} AND processed_at < {until} \
    ORDER BY processed_at DESC LIMIT 100) \
    ORDER BY processed_at DESC LIMIT 100) AS last) AS waits";

/// Back in their places: a session is sent again in its order. Those that were delayed have waited already.
pub(super) const RESEND_BETWEEN: &str = "UPDATE outbox FORCE INDEX (outbox_sent) SET status = 'pending', attempts = 0, \
    next_attempt_at = NULL, processed_at = NULL, deliver_at = NULL \
    WHERE status = 'sent' AND processed_at >= ? AND processed_at < ? AND (? IS NULL OR event_type = ?)";

/// Whose mark it was is forgotten with it.
pub(super) const REPLAY: &str = "UPDATE inbox FORCE INDEX (PRIMARY) SET status = 'pending', attempts = 0, \
    processed_at = NULL, next_attempt_at = NULL, marked_by = NULL \
    WHERE status = 'processed' AND has_body = 1 AND (event_data IS NOT NULL OR raw IS NOT NULL) AND seq IN ({numbers})";

/// The statement that lists a table's rows; there are no delayed rows in the inbox. With the values in it, because a
/// filter that is not there must not stand in an index's way.
pub(super) fn list_sql(table: Table, filter: &RowFilter) -> Option<String> {
    let (columns, place, from) = match (table, filter.state) {
        (Table::Outbox, RowState::Pending) => (OUTBOX_SUMMARY, "CAST(0 AS SIGNED)", OUTBOX_PENDING),
        (Table::Outbox, RowState::Delayed) => (OUTBOX_SUMMARY, "deliver_at", OUTBOX_DELAYED),
        (Table::Outbox, RowState::Dead) => (OUTBOX_SUMMARY, "CAST(0 AS SIGNED)", OUTBOX_DEAD),
        (Table::Outbox, RowState::Settled) => (OUTBOX_SUMMARY, "processed_at", OUTBOX_SETTLED),
        (Table::Inbox, RowState::Pending) => (INBOX_SUMMARY, "CAST(shard AS SIGNED)", INBOX_PENDING),
        (Table::Inbox, RowState::Delayed) => return None,
        (Table::Inbox, RowState::Dead) => (INBOX_SUMMARY, "CAST(0 AS SIGNED)", INBOX_DEAD),
        (Table::Inbox, RowState::Settled) => (INBOX_SUMMARY, "processed_at", INBOX_SETTLED),
    };
    let sql = format!("{columns}{from}").replace("{place}", place);
    let sql = if from == INBOX_SETTLED {
        let part = |body: &str| sql.replace("{body}", body);
        let order = "ORDER BY processed_at DESC, seq DESC LIMIT {limit}";
        format!("({}) UNION ALL ({}) {order}", part("1"), part("0"))
    } else {
        sql
    };
    let start = start_of(filter);
    let sql = sql
        .replace("{at}", &start.rank.to_string())
        .replace("{seq}", &start.seq.to_string())
        .replace("{limit}", &filter.limit.to_string())
        .replace("{filters}", &filters(table, filter));
    // Literals are hexadecimal: nothing in them can be taken for a place.
    let last = filter.owner.as_deref().unwrap_or(LAST_NAME);
    Some(sql.replace("{owner}", &literal(&start.owner)).replace("{last}", &literal(last)))
}

fn filters(table: Table, filter: &RowFilter) -> String {
    let (owner, written) = match table {
        Table::Outbox => ("lane", "created_at"),
        Table::Inbox => ("subscription", "received_at"),
    };
    let time = if filter.state == RowState::Settled { "processed_at" } else { written };
    let mut sql = format!(" AND {time} >= {}", to_millis(filter.since));
    if let Some(until) = filter.until {
        sql.push_str(&format!(" AND {time} < {}", to_millis(until)));
    }
    // The range that open rows are read in is the owner's already; said twice, it would have them sorted.
    let is_range = matches!(filter.state, RowState::Pending | RowState::Delayed);
    let of = if is_range { &None } else { &filter.owner };
    for (column, text) in [(owner, of), ("event_type", &filter.event), ("session_id", &filter.session)] {
        if let Some(text) = text {
            sql.push_str(&format!(" AND {column} = {}", literal(text)));
        }
    }
    if let Some(text) = &filter.error {
        // As bytes, so that no collation has a say in it.
        sql.push_str(&format!(
            " AND locate(CAST({} AS BINARY), CAST(last_error AS BINARY)) > 0",
            literal(text)
        ));
    }
    sql
}

async fn list(
    conn: &mut MySqlConnection,
    table: Table,
    filter: &RowFilter,
) -> Result<Vec<RowSummary>, StorageError> {
    let Some(sql) = list_sql(table, filter) else { return Ok(Vec::new()) };
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(|row| row_reading::summary(&Reader::new(row, table.name()), table)).collect()
}

async fn detail(
    conn: &mut MySqlConnection,
    table: Table,
    id: EventId,
    subscription: &str,
) -> Result<Option<RowDetail>, StorageError> {
    let query = match table {
        Table::Outbox => sqlx::query(OUTBOX_ROW).bind(id_bytes(id)),
        Table::Inbox => sqlx::query(INBOX_ROW).bind(id_bytes(id)).bind(subscription),
    };
    let row = query.fetch_optional(conn).await?;
    row.as_ref().map(|row| row_reading::detail(&Reader::new(row, table.name()), table)).transpose()
}

fn lease(row: &MySqlRow) -> Result<LeaseStatus, StorageError> {
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

fn instance(row: &MySqlRow) -> Result<InstanceStatus, StorageError> {
    let row = Reader::new(row, "distributed_events_instances");
    let instance = Instance::new(row.uuid("id")?, row.json("handles")?);
    Ok(InstanceStatus { instance, remaining: to_duration(row.get("remaining")?) })
}

async fn throughput(
    conn: &mut MySqlConnection,
    table: Table,
    since: SystemTime,
    until: SystemTime,
    at_most: u32,
) -> Result<Throughput, StorageError> {
    let (sql, name) = match table {
        Table::Outbox => (OUTBOX_THROUGHPUT, "outbox"),
        Table::Inbox => (INBOX_THROUGHPUT, "inbox"),
    };
    let sql = sql.replace("{since}", &to_millis(since).to_string());
    let sql = sql.replace("{until}", &to_millis(until).to_string());
    let sql = sql.replace("{at_most}", &at_most.to_string());
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await?;
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

async fn rows(conn: &mut MySqlConnection, sql: &'static str) -> Result<Vec<MySqlRow>, StorageError> {
    Ok(sqlx::query(sql).fetch_all(conn).await?)
}

impl OperatorStorage for MySql {
    fn migration_sql() -> String {
        migrate::whole_sql()
    }

    async fn clock(conn: &mut MySqlConnection) -> Result<SystemTime, StorageError> {
        Ok(from_millis(sqlx::query_scalar(concat!("SELECT ", now!())).fetch_one(conn).await?))
    }

    async fn list_rows(
        conn: &mut MySqlConnection,
        table: Table,
        filter: &RowFilter,
    ) -> Result<Vec<RowSummary>, StorageError> {
        let result = list(conn, table, filter).await;
        named(conn, result).await
    }

    async fn outbox_row(conn: &mut MySqlConnection, id: EventId) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Outbox, id, "").await;
        named(conn, result).await
    }

    async fn inbox_row(
        conn: &mut MySqlConnection,
        subscription: &str,
        id: EventId,
    ) -> Result<Option<RowDetail>, StorageError> {
        let result = detail(conn, Table::Inbox, id, subscription).await;
        named(conn, result).await
    }

    async fn next_subscription(
        conn: &mut MySqlConnection,
        after: &str,
    ) -> Result<Option<String>, StorageError> {
        let found = sqlx::query_scalar(NEXT_SUBSCRIPTION).bind(after).fetch_optional(&mut *conn).await;
        named(conn, found.map_err(StorageError::from)).await
    }

    async fn lease_statuses(conn: &mut MySqlConnection) -> Result<Vec<LeaseStatus>, StorageError> {
        let found = rows(conn, LEASES).await;
        named(conn, found).await?.iter().map(lease).collect()
    }

    async fn live_instances(conn: &mut MySqlConnection) -> Result<Vec<InstanceStatus>, StorageError> {
        let found = rows(conn, INSTANCES).await;
        named(conn, found).await?.iter().map(instance).collect()
    }

    async fn throughput(
        conn: &mut MySqlConnection,
        table: Table,
        since: SystemTime,
        until: SystemTime,
        at_most: u32,
    ) -> Result<Throughput, StorageError> {
        let result = throughput(conn, table, since, until, at_most).await;
        named(conn, result).await
    }

    async fn related(
        conn: &mut MySqlConnection,
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
        conn: &mut MySqlConnection,
        since: SystemTime,
        until: SystemTime,
        event: Option<&str>,
    ) -> Result<u64, StorageError> {
        let query =
            sqlx::query(RESEND_BETWEEN).bind(to_millis(since)).bind(to_millis(until)).bind(event).bind(event);
        let done = query.execute(&mut *conn).await;
        named(conn, done.map_err(StorageError::from)).await.map(|done| done.rows_affected())
    }

    async fn replay(conn: &mut MySqlConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let done = sqlx::raw_sql(AssertSqlSafe(with_numbers(REPLAY, seqs))).execute(&mut *conn).await;
        named(conn, done.map_err(StorageError::from)).await.map(|done| done.rows_affected())
    }
}
