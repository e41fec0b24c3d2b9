//! No statement of a loop scans what retention keeps, whatever the statistics say. On the server that the environment
//! variable names.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Pool, Row};

use super::{admin, inbox, ingest, lease, migrate, operator, operator_rows, outbox, related, row};
use crate::envelope::EventId;
use crate::storage::{Fence, InboxQuery, OutboxQuery, RowFilter, RowState, Table};

/// A database whose statistics know of much history and of next to nothing open, and one that knows of nothing.
struct Databases {
    pools: Vec<Pool<sqlx::MySql>>,
    names: Vec<String>,
}

fn server() -> MySqlConnectOptions {
    let variable = "DISTRIBUTED_EVENTS_MYSQL";
    let url = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: `./tests/run` starts a server and sets it"));
    url.parse().unwrap()
}

async fn databases() -> Databases {
    let mut databases = Databases { pools: Vec::new(), names: Vec::new() };
    let mut conn = server().connect().await.unwrap();
    for _ in 0..2 {
        let name = format!("de_test_{}", uuid::Uuid::new_v4().simple());
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut conn).await.unwrap();
        databases.names.push(name.clone());
        let options = server().database(&name);
        let pool = MySqlPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        migrate::migrate(&pool).await.unwrap();
        databases.pools.push(pool);
    }
    let numbers = "(WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) SELECT n FROM n) AS n";
    let mut history = String::new();
    for part in 0..4 {
        history.push_str(&format!(
            "INSERT INTO outbox (id, event_type, event_data, status, processed_at) \
                 SELECT unhex(md5(concat({part}, 'o', n))), 'e', '{{}}', 'sent', n FROM {numbers}; \
             INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, processed_at) \
                 SELECT 's', unhex(md5(concat({part}, 'i', n))), n, 'e', '{{}}', n % 64, 'processed', n FROM {numbers}; "
        ));
    }
    history
        .push_str("INSERT INTO outbox (id, event_type, event_data) VALUES (unhex(md5('open')), 'e', '{}'); ");
    history.push_str("ANALYZE TABLE outbox, inbox");
    sqlx::raw_sql(AssertSqlSafe(history)).execute(&databases.pools[1]).await.unwrap();
    databases
}

impl Drop for Databases {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        // A thread and a runtime of its own, since the test's can't be waited for here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = server().connect().await.unwrap();
                for name in names {
                    let sql = format!("SET lock_wait_timeout = 10; DROP DATABASE {name}");
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
                }
            });
        });
        dropping.join().unwrap();
    }
}

/// A step of a plan: the table, how it is read, by which index, and what else is done.
type Step = (String, String, String, String);

async fn plan(pool: &Pool<sqlx::MySql>, sql: &str) -> Vec<Step> {
    let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(pool).await.unwrap();
    let text = |row: &sqlx::mysql::MySqlRow, column: &str| {
        row.get::<Option<Vec<u8>>, _>(column)
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .unwrap_or_default()
    };
    rows.iter()
        .map(|row| (text(row, "table"), text(row, "type"), text(row, "key"), text(row, "Extra")))
        .collect()
}

/// The SQL with these literals for its variables.
fn fill(sql: &str, values: &[&str]) -> String {
    let parts: Vec<_> = sql.split('?').collect();
    assert_eq!(parts.len(), values.len() + 1, "{sql}");
    parts.iter().zip(values.iter().chain([&""])).flat_map(|(part, value)| [*part, *value]).collect()
}

/// Every step of a plan that reads one of the tables reads it by one of these indexes, and never the whole of it; each of
/// them is used.
async fn assert_steps(databases: &Databases, sql: &str, allowed: &[&str]) {
    for pool in &databases.pools {
        let plan = plan(pool, sql).await;
        let mut used = vec![false; allowed.len()];
        for (table, how, key, _) in &plan {
            if ["outbox", "inbox", "oldest", "last", "distributed_events_leases"].contains(&table.as_str()) {
                let position = allowed.iter().position(|allowed| key == allowed);
                let position =
                    position.unwrap_or_else(|| panic!("{table} by `{key}` in {plan:#?}\nof {sql}"));
                assert!(!["ALL", "index"].contains(&how.as_str()), "{how} of {table} in {plan:#?}\nof {sql}");
                used[position] = true;
            }
        }
        assert!(used.iter().all(|used| *used), "not all of {allowed:#?}\nin {plan:#?}\nof {sql}");
    }
}

/// The steps hold, and nothing is sorted but what the index gives in order.
async fn assert_ordered(databases: &Databases, sql: &str, allowed: &[&str]) {
    assert_steps(databases, sql, allowed).await;
    for pool in &databases.pools {
        let plan = plan(pool, sql).await;
        let sorts = |step: &Step| step.3.contains("filesort") || step.3.contains("temporary");
        assert!(!plan.iter().any(sorts), "sorts in {plan:#?}\nof {sql}");
    }
}

#[tokio::test]
async fn rows_are_read_by_the_indexes_of_open_rows() {
    let databases = databases().await;
    let many: Vec<i64> = (1..600).collect();
    let sessions: Vec<_> = (0..600).map(|n| format!("session {n}")).collect();
    for (except, blocked) in [(&[][..], &[][..]), (&many[..], &sessions[..])] {
        let query = OutboxQuery::new("default", 500).except(except);
        assert_ordered(&databases, &outbox::read_sql(&query), &["outbox_pending"]).await;
        assert_ordered(&databases, &outbox::read_sql(&query.after(7)), &["outbox_pending"]).await;
        let due = outbox::read_sql(&query.after(3_600).due());
        for pool in &databases.pools {
            let plan = plan(pool, &due).await;
            let main = plan.iter().find(|step| step.0 == "outbox").unwrap();
            assert_eq!((main.1.as_str(), main.2.as_str()), ("range", "outbox_pending"), "{plan:#?}");
            assert!(!main.3.contains("filesort"), "{plan:#?}");
            let others = plan.iter().filter(|step| step.0 == "last");
            others.for_each(|step| assert_eq!(step.2, "PRIMARY", "{plan:#?}"));
        }
        let query = InboxQuery::new("s", 7, 100).after(5).without(blocked).except(except);
        assert_ordered(&databases, &inbox::read_sql(&query), &["inbox_pending"]).await;
    }
    let ready = fill(inbox::READY, &["'[[1,0],[2,5]]'", "'s'"]);
    assert_steps(&databases, &ready, &["inbox_pending"]).await;
}

#[tokio::test]
async fn rows_are_written_by_their_keys() {
    let databases = databases().await;
    let ids: Vec<_> = (0..500).map(|_| EventId::new()).collect();
    for sql in [outbox::MARK_SENT, outbox::DELETE_SENT] {
        for ids in [&ids[..2], &ids[..]] {
            assert_steps(&databases, &row::with_ids(sql, ids.iter().copied()), &["outbox_id"]).await;
        }
    }
    let id = "unhex(md5('open'))";
    assert_steps(&databases, &fill(outbox::MARK_DEAD, &["'reason'", id]), &["outbox_id"]).await;
    let names = row::with_ids(ingest::NAMES, ids.iter().copied()).replace("{subscription}", "'s'");
    assert_steps(&databases, &names, &["inbox_id"]).await;
    let mark = inbox::MARK_PROCESSED.split(';').nth(1).unwrap();
    for sql in
        [mark, admin::REQUEUE_INBOX, admin::DISCARD_INBOX, admin::REQUEUE_OUTBOX, admin::DISCARD_OUTBOX]
    {
        let sql = row::with_numbers(sql, &(1..500).collect::<Vec<_>>())
            .replace("{delay}", "5")
            .replace("{noted}", "last_error");
        assert_steps(&databases, &sql, &["PRIMARY"]).await;
    }
}

/// The lease is there, as it has to be for the plan to go on.
#[tokio::test]
async fn attempts_and_leases_are_found_by_name() {
    let databases = databases().await;
    let sql = "INSERT INTO distributed_events_leases (name, owner, epoch) VALUES ('a', repeat('o', 16), 1), \
        ('b', NULL, 0), ('c', NULL, 0); INSERT INTO inbox (seq, subscription, id, message_id, event_type, shard) \
        VALUES (9999, 's', unhex(md5('open')), 'm', 'e', 1)";
    for pool in &databases.pools {
        sqlx::raw_sql(sql).execute(pool).await.unwrap();
    }
    let owner = "repeat('o', 16)";
    for (sql, values) in [
        (inbox::RETRY, vec!["1", "'no'", "5", "9999", "'a'", owner, "1"]),
        (inbox::DEAD, vec!["1", "'no'", "9999", "'a'", owner, "1"]),
        (inbox::DEAD_AFTER_END, vec!["1", "'no'", "9999"]),
    ] {
        assert_steps(&databases, &fill(sql, &values), &["PRIMARY"]).await;
    }
    for sql in [lease::LOOK, lease::LOCK, lease::FREE] {
        let sql = sql.replace("{names}", "'a', 'b'").replace("{time}", "30000");
        assert_ordered(&databases, &sql, &["PRIMARY"]).await;
    }
    let fences = ["a", "b"].map(|name| Fence::new(name.to_owned(), uuid::Uuid::nil(), 1));
    for sql in [lease::RENEW, lease::HELD, lease::RELEASE] {
        assert_steps(&databases, &lease::held(sql, &fences).replace("{time}", "9"), &["PRIMARY"]).await;
    }
}

#[tokio::test]
async fn counts_read_open_rows_only() {
    let databases = databases().await;
    assert_steps(&databases, admin::COUNT_OUTBOX, &["outbox_pending", "PRIMARY"]).await;
    assert_steps(&databases, admin::COUNT_INBOX, &["inbox_pending", "PRIMARY"]).await;
}

#[tokio::test]
async fn dead_rows_are_paged_in_the_order_of_their_index() {
    let databases = databases().await;
    for values in [["5", "NULL", "NULL", "NULL", "NULL", "9"], ["5", "'x'", "'x'", "'y'", "'y'", "9"]] {
        assert_ordered(&databases, &fill(admin::DEAD_OUTBOX, &values), &["outbox_dead"]).await;
        assert_ordered(&databases, &fill(admin::DEAD_INBOX, &values), &["inbox_dead"]).await;
    }
}

#[tokio::test]
async fn retention_is_a_range_of_an_index() {
    let databases = databases().await;
    let week = Duration::from_secs(7 * 24 * 3600).as_millis().to_string();
    for (old, index) in [
        (admin::OLD_OUTBOX, "outbox_sent"),
        (admin::OLD_BODIES, "inbox_settled"),
        (admin::OLD_INBOX, "inbox_settled"),
    ] {
        let old = old.replace("{older}", &week).replace("{limit}", "1000");
        for pool in &databases.pools {
            let plan = plan(pool, &old).await;
            let of_tables: Vec<_> = plan.iter().filter(|step| !step.0.starts_with('<')).collect();
            for (_, how, key, extra) in of_tables {
                assert_eq!((how.as_str(), key.as_str()), ("range", index), "{plan:#?}");
                assert!(!extra.contains("filesort"), "{plan:#?}");
            }
        }
    }
    for sql in [admin::PURGE_OUTBOX, admin::PURGE_BODIES, admin::PURGE_INBOX] {
        let sql = row::with_numbers(sql, &(1..1_000).collect::<Vec<_>>());
        assert_steps(&databases, &sql, &["PRIMARY"]).await;
    }
}

#[tokio::test]
async fn operators_lists_are_ranges_of_indexes() {
    let databases = databases().await;
    for (table, state, index) in [
        (Table::Outbox, RowState::Pending, "outbox_pending"),
        (Table::Outbox, RowState::Delayed, "outbox_pending"),
        (Table::Outbox, RowState::Dead, "outbox_dead"),
        (Table::Outbox, RowState::Settled, "outbox_sent"),
        (Table::Inbox, RowState::Pending, "inbox_pending"),
        (Table::Inbox, RowState::Dead, "inbox_dead"),
        (Table::Inbox, RowState::Settled, "inbox_settled"),
    ] {
        let mut filter = RowFilter::new(state, std::time::SystemTime::UNIX_EPOCH);
        for narrow in [false, true] {
            if narrow {
                filter.owner = Some("s".to_owned());
                filter.error = Some("no card".to_owned());
                filter.after = Some("3:5:s".parse().unwrap());
            }
            let sql = operator::list_sql(table, &filter).unwrap();
            assert_steps(&databases, &sql, &[index]).await;
            if (table, state) != (Table::Inbox, RowState::Settled) {
                assert_ordered(&databases, &sql, &[index]).await;
            }
        }
    }
}

#[tokio::test]
async fn what_operators_ask_beside_lists_is_found_by_key_or_by_time() {
    let databases = databases().await;
    for (sql, index) in
        [(operator::OUTBOX_THROUGHPUT, "outbox_sent"), (operator::INBOX_THROUGHPUT, "inbox_settled")]
    {
        let sql = sql.replace("{since}", "5").replace("{until}", "9").replace("{at_most}", "10000");
        assert_steps(&databases, &sql, &[index]).await;
    }
    let resend = fill(operator::RESEND_BETWEEN, &["5", "9", "NULL", "NULL"]);
    assert_steps(&databases, &resend, &["outbox_sent"]).await;
    let id = "unhex(md5('open'))";
    let row = fill(operator_rows::OUTBOX_ROW, &[id]);
    assert!(plan(&databases.pools[1], &row).await.iter().all(|step| step.2 == "outbox_id"), "{row}");
    let next = fill(operator::NEXT_SUBSCRIPTION, &["'a'"]);
    assert_ordered(&databases, &next, &["inbox_id"]).await;
    let replay = row::with_numbers(operator::REPLAY, &(1..500).collect::<Vec<_>>());
    assert_steps(&databases, &replay, &["PRIMARY"]).await;
}

#[tokio::test]
async fn a_correlation_is_looked_for_along_indexes() {
    let databases = databases().await;
    let (since, until) =
        (std::time::UNIX_EPOCH, std::time::UNIX_EPOCH + std::time::Duration::from_millis(500));
    let outbox = ["outbox_sent", "outbox_pending", "outbox_dead"];
    let inbox = ["inbox_settled", "inbox_settled", "inbox_pending", "inbox_dead"];
    for (table, indexes) in [(Table::Outbox, &outbox[..]), (Table::Inbox, &inbox[..])] {
        let statements = related::sql(table, "c", since, until, 1_000);
        assert_eq!(statements.len(), indexes.len());
        for (sql, index) in statements.iter().zip(indexes) {
            assert_ordered(&databases, sql, &[index]).await;
        }
    }
}
