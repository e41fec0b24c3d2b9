//! No statement of a loop scans what retention keeps, whatever the statistics say, and neither do the plans that serve
//! every argument.

mod forgetting;
mod grown;

use std::future::Future;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::pool::MARKING;
use super::{admin, inbox, ingest, lease, migrate, operator, outbox, related};

/// History, and next to nothing that is open; none has been analysed.
const HISTORY: &str = "
    INSERT INTO outbox (id, event_type, event_data, status, processed_at)
        SELECT gen_random_uuid(), 'e', repeat('x', 200), 'sent', now() - n * interval '1 s' FROM generate_series(1, 20000) AS n;
    INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, processed_at)
        SELECT 's', gen_random_uuid(), n, 'e', repeat('x', 200), n % 64, 'processed', now() - n * interval '1 s'
        FROM generate_series(1, 20000) AS n;
    INSERT INTO outbox (id, event_type, event_data) VALUES (gen_random_uuid(), 'e', '{}');
    INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard)
        VALUES ('s', gen_random_uuid(), 'm', 'e', '{}', 3);
    INSERT INTO distributed_events_leases (name) SELECT 'lease ' || n FROM generate_series(1, 200) AS n;";

/// Statistics of other days: nothing known, what is there, and all of it still open, in one shard.
const DAYS: [(&str, &str); 3] = [
    ("never analysed", HISTORY),
    ("analysed", ""),
    (
        "analysed while all was open",
        "TRUNCATE outbox, inbox;
         INSERT INTO outbox (id, event_type, event_data)
             SELECT gen_random_uuid(), 'e', repeat('x', 200) FROM generate_series(1, 20000);
         INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard)
             SELECT 's', gen_random_uuid(), n, 'e', repeat('x', 200), 3 FROM generate_series(1, 20000) AS n;
         ANALYZE;
         UPDATE outbox SET status = 'sent', processed_at = now();
         UPDATE inbox SET status = 'processed', processed_at = now();",
    ),
];

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

/// Calls with a pool of a database that goes when the test ends well.
async fn in_database<F: Future<Output = ()>>(look: impl FnOnce(PgPool) -> F) {
    let url = std::env::var("DISTRIBUTED_EVENTS_POSTGRES").expect("`./tests/run` sets it");
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut server = options.connect().await.unwrap();
    let name = format!("de_test_{}", Uuid::new_v4().simple());
    run(&mut server, &format!("CREATE DATABASE {name}")).await;
    let pool = PgPoolOptions::new().connect_lazy_with(options.database(&name));
    migrate::migrate(&pool).await.unwrap();
    let unattended =
        "ALTER TABLE outbox SET (autovacuum_enabled = off); ALTER TABLE inbox SET (autovacuum_enabled = off)";
    run(&mut pool.acquire().await.unwrap(), unattended).await;
    look(pool).await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

/// Calls with each day's connection.
async fn on_each_day<F: Future<Output = PgConnection>>(look: impl Fn(PgConnection, &'static str) -> F) {
    in_database(async |pool| {
        let mut conn = pool.connect_options().connect().await.unwrap();
        for (n, (day, sql)) in DAYS.into_iter().enumerate() {
            run(&mut conn, sql).await;
            if n == 1 {
                run(&mut conn, "VACUUM ANALYZE").await;
            }
            conn = look(conn, day).await;
        }
        conn.close().await.unwrap();
    })
    .await;
}

/// The plan with arguments, or for any.
async fn plan(conn: &mut PgConnection, sql: &str, arguments: &str, generic: bool) -> String {
    let mode = if generic { "force_generic_plan" } else { "force_custom_plan" };
    run(conn, &format!("SET plan_cache_mode = {mode}; PREPARE asked AS {sql}")).await;
    let asked = if arguments.is_empty() { "asked".to_owned() } else { format!("asked({arguments})") };
    let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE {asked}")))
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    run(conn, "DEALLOCATE asked").await;
    rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
}

/// The plan reaches the tables by these indexes, or by the places of rows, and sorts no more than what it may.
async fn assert_indexes(
    sql: &'static str,
    arguments: &'static str,
    allowed: &'static [&'static str],
    sorts: &'static [&'static str],
) {
    assert_indexes_of(&[false, true], sql, arguments, allowed, sorts).await;
}

/// The same of a statement that is planned anew each time.
async fn assert_planned_indexes(
    sql: &'static str,
    arguments: &'static str,
    allowed: &'static [&'static str],
    sorts: &'static [&'static str],
) {
    assert_indexes_of(&[false], sql, arguments, allowed, sorts).await;
}

async fn assert_indexes_of(
    plans: &'static [bool],
    sql: &'static str,
    arguments: &'static str,
    allowed: &'static [&'static str],
    sorts: &'static [&'static str],
) {
    on_each_day(|mut conn, day| async move {
        for &generic in plans {
            assert_plan(&mut conn, day, generic, sql, arguments, allowed, sorts).await;
        }
        conn
    })
    .await;
}

async fn assert_plan(
    conn: &mut PgConnection,
    day: &str,
    generic: bool,
    sql: &str,
    arguments: &str,
    allowed: &[&str],
    sorts: &[&str],
) {
    let plan = plan(conn, sql, arguments, generic).await;
    let context = format!("{day}, generic: {generic}\n{sql}\n{plan}");
    for line in plan.lines().map(str::trim_start).map(|line| line.trim_start_matches("-> ").trim_start()) {
        assert!(!line.starts_with("Seq Scan on") || line.contains("on distributed_events_"), "{context}");
        if line.contains("_leases") {
            continue;
        }
        if let Some((_, index)) =
            line.split_once("Scan using ").or_else(|| line.split_once("Bitmap Index Scan on "))
        {
            let index = index.split(' ').next().unwrap_or_default();
            assert!(allowed.contains(&index), "{index}: {context}");
        }
        assert!(sorts.contains(&day) || !line.starts_with("Sort"), "{context}");
    }
    for index in allowed {
        assert!(plan.contains(index), "not {index}: {context}");
    }
}

const SORTED: &[&str] = &[DAYS[0].0, DAYS[1].0, DAYS[2].0];
/// As long as the planner knows nothing.
const SORTED_AT_FIRST: &[&str] = &[DAYS[0].0];
/// Where it takes every delayed row for due.
const SORTED_AT_LAST: &[&str] = &[DAYS[2].0];
const IN_ORDER: &[&str] = &[];

/// A statement that reads a page, as the loops ask it.
fn paged(sql: &'static str) -> &'static str {
    format!("{sql} LIMIT 500").leak()
}

#[tokio::test]
async fn the_outbox_is_read_by_its_indexes_of_open_rows() {
    assert_indexes(paged(outbox::READ), "'default', 0, '{}'", &["outbox_pending"], IN_ORDER).await;
    assert_indexes(
        paged(outbox::READ_DUE),
        "'default', 0, '{}', 0",
        &["outbox_due", "outbox_due_seq"],
        SORTED_AT_LAST,
    )
    .await;
}

#[tokio::test]
async fn outbox_rows_are_marked_by_id() {
    for sql in [outbox::MARK_SENT, outbox::DELETE_SENT] {
        assert_indexes(sql, "ARRAY[gen_random_uuid(), gen_random_uuid()]", &["outbox_id"], IN_ORDER).await;
    }
    assert_indexes(outbox::MARK_DEAD, "gen_random_uuid(), 'x'", &["outbox_id"], IN_ORDER).await;
}

/// Neither when there was nothing, nor by the plan for as many ids as there are rows.
#[tokio::test]
async fn a_mark_walks_through_no_table() {
    on_each_day(|mut conn, day| async move {
        let some = "INSERT INTO outbox (id, event_type, event_data)
            SELECT gen_random_uuid(), 'e', repeat('x', 200) FROM generate_series(1, 600)";
        for (rows, generic) in [("", true), (some, false)] {
            run(&mut conn, &format!("TRUNCATE outbox; {rows}")).await;
            run(&mut conn, "VACUUM ANALYZE outbox").await;
            run(&mut conn, &format!("BEGIN{MARKING}")).await;
            for sql in [outbox::MARK_SENT, outbox::DELETE_SENT] {
                let ids = "array_fill(gen_random_uuid(), ARRAY[500])";
                assert_plan(&mut conn, day, generic, sql, ids, &["outbox_id"], IN_ORDER).await;
            }
            run(&mut conn, "ROLLBACK").await;
        }
        conn
    })
    .await;
}

#[tokio::test]
async fn the_inbox_is_read_by_its_index_of_pending_rows() {
    assert_indexes(paged(inbox::READ), "'s', 3::smallint, 0, '{}', '{}'", &["inbox_pending"], IN_ORDER).await;
    assert_indexes(paged(inbox::READ), "'s', 3::smallint, 20001, '{}', '{}'", &["inbox_pending"], IN_ORDER)
        .await;
    // What is sorted is the question.
    assert_indexes(inbox::READY, "'s', '{3, 4}', '{0, 0}'", &["inbox_pending"], SORTED).await;
    assert_indexes(inbox::MARK_PROCESSED, "'{1, 2, 3}'", &["inbox_seq"], IN_ORDER).await;
    assert_indexes(inbox::MARK_ONE_PROCESSED, "1", &["inbox_seq"], IN_ORDER).await;
    assert_indexes(ingest::NAMES, "'s', ARRAY[gen_random_uuid()]", &["inbox_id"], IN_ORDER).await;
}

#[tokio::test]
async fn dead_rows_are_paged_in_the_order_of_their_index() {
    assert_indexes(admin::DEAD_OUTBOX, "0, NULL, NULL, 100", &["outbox_dead"], SORTED_AT_FIRST).await;
    assert_indexes(admin::DEAD_INBOX, "0, 's', 'e', 100", &["inbox_dead"], SORTED_AT_FIRST).await;
}

#[tokio::test]
async fn retention_is_a_range_of_an_index() {
    for (sql, index) in [
        (admin::PURGE_OUTBOX, "outbox_sent"),
        (admin::PURGE_BODIES, "inbox_bodies"),
        (admin::PURGE_INBOX, "inbox_processed"),
    ] {
        assert_indexes(sql, "604800000, 1000", Box::leak(Box::new([index])), SORTED_AT_FIRST).await;
    }
}

#[tokio::test]
async fn single_rows_are_written_by_seq() {
    for (sql, arguments, index) in [
        (admin::REQUEUE_OUTBOX, "'{1, 2}', 0, 'x'", "outbox_dead"),
        (admin::DISCARD_OUTBOX, "'{1, 2}'", "outbox_dead"),
        (admin::REQUEUE_INBOX, "'{1, 2}', 0, 'x'", "inbox_dead"),
        (admin::DISCARD_INBOX, "'{1, 2}', 'x'", "inbox_dead"),
        (inbox::DEAD_AFTER_END, "1, 0, 'x'", "inbox_seq"),
    ] {
        assert_indexes(sql, arguments, Box::leak(Box::new([index])), SORTED).await;
    }
    let fenced = &["inbox_seq"];
    assert_indexes(inbox::RETRY, "1, 1, 'x', 'l', gen_random_uuid(), 1, 10", fenced, SORTED).await;
    assert_indexes(inbox::DEAD, "1, 1, 'x', 'l', gen_random_uuid(), 1", fenced, SORTED).await;
}

/// Without statistics of their own these read a whole index of open rows, which is what they count.
#[tokio::test]
async fn counts_read_open_rows_only() {
    on_each_day(|mut conn, day| async move {
        for sql in [admin::COUNT_OUTBOX, admin::COUNT_INBOX] {
            let plan = plan(&mut conn, sql, "", false).await;
            if day != "analysed while all was open" {
                assert!(!plan.contains("Seq Scan"), "{day}\n{plan}");
            }
        }
        conn
    })
    .await;
}

#[tokio::test]
async fn leases_are_found_by_name() {
    on_each_day(|mut conn, day| async move {
        let arguments = "ARRAY['lease 1'], gen_random_uuid(), 1, 1000";
        let plan = plan(&mut conn, lease::TAKE, arguments, true).await;
        assert!(day == "never analysed" || plan.contains("distributed_events_leases_pkey"), "{day}\n{plan}");
        conn
    })
    .await;
}

#[tokio::test]
async fn operators_lists_are_ranges_of_indexes() {
    let open = "NULL, NULL, NULL, NULL, 0, NULL, '', -70368744177664, -1, 100, chr(1114111)";
    let last_hour = "'default', 'e', 's', 'x', (extract(epoch FROM now() - interval '1 hour') * 1000)::bigint, \
        70368744177664, '', 70368744177664, 9223372036854775807, 100, chr(1114111)";
    for (sql, index) in [
        (operator::OUTBOX_PENDING, "outbox_pending"),
        (operator::OUTBOX_DELAYED, "outbox_due"),
        (operator::OUTBOX_DEAD, "outbox_dead"),
        (operator::INBOX_PENDING, "inbox_pending"),
        (operator::INBOX_DEAD, "inbox_dead"),
    ] {
        assert_planned_indexes(sql, open, Box::leak(Box::new([index])), SORTED).await;
    }
    for (sql, index) in
        [(operator::OUTBOX_SETTLED, "outbox_sent"), (operator::INBOX_SETTLED, "inbox_processed")]
    {
        assert_planned_indexes(sql, last_hour, Box::leak(Box::new([index])), SORTED).await;
    }
}

#[tokio::test]
async fn what_operators_ask_beside_lists_is_found_by_key_or_by_time() {
    let minute = "(extract(epoch FROM now() - interval '1 minute') * 1000)::bigint, 70368744177664, 10000";
    assert_planned_indexes(operator::OUTBOX_THROUGHPUT, minute, &["outbox_sent"], SORTED).await;
    assert_planned_indexes(operator::INBOX_THROUGHPUT, minute, &["inbox_processed"], SORTED).await;
    let minute = "(extract(epoch FROM now() - interval '1 minute') * 1000)::bigint, 70368744177664, NULL";
    assert_planned_indexes(operator::RESEND_BETWEEN, minute, &["outbox_sent"], SORTED).await;
    assert_planned_indexes(operator::OUTBOX_ROW, "gen_random_uuid(), ''", &["outbox_id"], IN_ORDER).await;
    assert_planned_indexes(operator::INBOX_ROW, "gen_random_uuid(), 's'", &["inbox_id"], IN_ORDER).await;
    assert_planned_indexes(operator::NEXT_SUBSCRIPTION, "''", &["inbox_id"], IN_ORDER).await;
    assert_planned_indexes(operator::REPLAY, "'{1, 2}'", &["inbox_seq"], IN_ORDER).await;
}

#[tokio::test]
async fn a_correlation_is_looked_for_along_indexes() {
    let day = "'c', (extract(epoch FROM now() - interval '1 day') * 1000)::bigint, 70368744177664, 1000";
    let outbox = ["outbox_sent", "outbox_pending", "outbox_due", "outbox_dead"];
    let inbox = ["inbox_processed", "inbox_pending", "inbox_dead"];
    on_each_day(|mut conn, name| async move {
        let all = related::OUTBOX.into_iter().zip(outbox).chain(related::INBOX.into_iter().zip(inbox));
        for (sql, index) in all {
            assert_plan(&mut conn, name, false, sql, day, &[index], SORTED).await;
        }
        conn
    })
    .await;
}

/// What the loops ask again and again, on a backlog as on little: after the first five executions, in which PostgreSQL
/// compares, no more plans are made.
#[tokio::test]
async fn what_loops_repeat_is_planned_once() {
    let statements = [
        (paged(outbox::READ), "'default', 19000, '{}'"),
        (paged(outbox::READ), "'default', 0, '{}'"),
        (paged(outbox::READ_DUE), "'default', 0, '{}', 0"),
        (outbox::MARK_SENT, "array_fill(gen_random_uuid(), ARRAY[100])"),
        (outbox::DELETE_SENT, "array_fill(gen_random_uuid(), ARRAY[100])"),
        (paged(inbox::READ), "'s', 3::smallint, 19000, '{}', '{}'"),
        (paged(inbox::READ), "'s', 3::smallint, 0, '{}', '{}'"),
        (inbox::READY, "'s', array_fill(3::smallint, ARRAY[64]), array_fill(0::bigint, ARRAY[64])"),
        (inbox::MARK_ONE_PROCESSED, "0"),
        (inbox::MARK_PROCESSED, "array_fill(-1::bigint, ARRAY[50])"),
    ];
    const BACKLOG: &str = "
        INSERT INTO outbox (id, event_type, event_data)
            SELECT gen_random_uuid(), 'e', repeat('x', 200) FROM generate_series(1, 20000);
        INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard)
            SELECT 's', gen_random_uuid(), n, 'e', repeat('x', 200), 3 FROM generate_series(1, 20000) AS n;
        ANALYZE";
    on_each_day(|mut conn, day| async move {
        for backlog in [false, true] {
            if backlog {
                run(&mut conn, BACKLOG).await;
            }
            for (sql, arguments) in statements {
                run(&mut conn, &format!("PREPARE asked AS {sql}")).await;
                for _ in 0..12 {
                    run(&mut conn, &format!("EXECUTE asked({arguments})")).await;
                }
                let plans = "SELECT custom_plans FROM pg_prepared_statements WHERE name = 'asked'";
                let plans: i64 =
                    sqlx::query_scalar(plans).persistent(false).fetch_one(&mut conn).await.unwrap();
                assert!(plans <= 5, "{plans} plans: {day}, with a backlog: {backlog}\n{sql}");
                run(&mut conn, "DEALLOCATE asked").await;
            }
        }
        conn
    })
    .await;
}
