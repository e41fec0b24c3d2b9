//! No statement of a loop scans what retention keeps, whatever the statistics say.

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{AssertSqlSafe, Pool, Row, Sqlite};

use super::{admin, inbox, ingest, lease, migrate, operator, outbox, related};

/// A database whose statistics know of much history and of next to nothing open, and one without any.
async fn databases() -> [Pool<Sqlite>; 2] {
    let mut pools = Vec::new();
    for _ in 0..2 {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        migrate::migrate(&pool).await.unwrap();
        pools.push(pool);
    }
    let history = "
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
        INSERT INTO outbox (id, event_type, event_data, status, processed_at)
            SELECT randomblob(16), 'e', '{}', 'sent', n FROM n;
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
        INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, processed_at)
            SELECT 's', randomblob(16), n, 'e', '{}', n % 64, 'processed', n FROM n;
        INSERT INTO outbox (id, event_type, event_data) VALUES (randomblob(16), 'e', '{}');
        ANALYZE;";
    sqlx::raw_sql(history).execute(&pools[1]).await.unwrap();
    pools.try_into().unwrap()
}

async fn plan(pool: &Pool<Sqlite>, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

/// Every step of a plan that reads one of the two tables is one of these.
async fn assert_steps(sql: &str, allowed: &[&str]) {
    for pool in databases().await {
        let plan = plan(&pool, sql).await;
        let mut used = vec![false; allowed.len()];
        for step in &plan {
            let of_tables = ["outbox", "inbox", "oldest"].iter().any(|table| {
                step.starts_with(&format!("SCAN {table}")) || step.starts_with(&format!("SEARCH {table}"))
            });
            match allowed.iter().position(|allowed| step == allowed) {
                Some(position) => used[position] = true,
                None => assert!(!of_tables, "unexpected step `{step}` in {plan:#?}\nof {sql}"),
            }
        }
        assert!(used.iter().all(|used| *used), "not all of {allowed:#?}\nin {plan:#?}\nof {sql}");
    }
}

/// The steps hold, and nothing is sorted but what the index gives in order.
async fn assert_ordered(sql: &str, allowed: &[&str]) {
    assert_steps(sql, allowed).await;
    for pool in databases().await {
        let plan = plan(&pool, sql).await;
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "sorts in {plan:#?}\nof {sql}");
    }
}

#[tokio::test]
async fn the_outbox_is_read_by_its_indexes_of_open_rows() {
    assert_ordered(outbox::READ, &["SEARCH outbox USING INDEX outbox_pending (lane=? AND seq>?)"]).await;
    assert_ordered(
        outbox::READ_DUE,
        &[
            "SEARCH outbox USING INDEX outbox_due (lane=? AND deliver_at>? AND deliver_at<?)",
            "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)",
        ],
    )
    .await;
}

#[tokio::test]
async fn outbox_rows_are_marked_by_id() {
    for sql in [outbox::MARK_SENT, outbox::DELETE_SENT, outbox::MARK_DEAD] {
        assert_steps(sql, &["SEARCH outbox USING INDEX outbox_id (id=?)"]).await;
    }
}

#[tokio::test]
async fn the_inbox_is_read_by_its_index_of_pending_rows() {
    assert_ordered(
        inbox::READ,
        &["SEARCH inbox USING INDEX inbox_pending (subscription=? AND shard=? AND seq>?)"],
    )
    .await;
    assert_steps(
        inbox::READY,
        &["SEARCH inbox EXISTS USING COVERING INDEX inbox_pending (subscription=? AND shard=? AND seq>?)"],
    )
    .await;
    assert_steps(inbox::MARK_PROCESSED, &["SEARCH inbox USING INTEGER PRIMARY KEY (rowid=?)"]).await;
    assert_steps(ingest::NAMES, &["SEARCH inbox USING INDEX inbox_id (subscription=? AND id=?)"]).await;
}

#[tokio::test]
async fn counts_read_open_rows_only() {
    let oldest = "SEARCH oldest USING INTEGER PRIMARY KEY (rowid=?)";
    assert_steps(
        admin::COUNT_OUTBOX,
        &[
            "SCAN outbox USING COVERING INDEX outbox_pending",
            "SCAN outbox USING COVERING INDEX outbox_due",
            "SCAN outbox USING COVERING INDEX outbox_dead",
            oldest,
        ],
    )
    .await;
    assert_steps(
        admin::COUNT_INBOX,
        &[
            "SCAN inbox USING COVERING INDEX inbox_pending",
            "SCAN inbox USING COVERING INDEX inbox_dead",
            oldest,
        ],
    )
    .await;
}

#[tokio::test]
async fn dead_rows_are_paged_in_the_order_of_their_index() {
    assert_ordered(admin::DEAD_OUTBOX, &["SEARCH outbox USING INDEX outbox_dead (seq>?)"]).await;
    assert_ordered(admin::DEAD_INBOX, &["SEARCH inbox USING INDEX inbox_dead (seq>?)"]).await;
}

#[tokio::test]
async fn retention_is_a_range_of_an_index() {
    let outbox = "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)";
    let inbox = "SEARCH inbox USING INTEGER PRIMARY KEY (rowid=?)";
    for (sql, range, row) in [
        (admin::PURGE_OUTBOX, "SEARCH outbox USING COVERING INDEX outbox_sent (processed_at<?)", outbox),
        (admin::PURGE_BODIES, "SEARCH inbox USING INDEX inbox_bodies (processed_at<?)", inbox),
        (admin::PURGE_INBOX, "SEARCH inbox USING COVERING INDEX inbox_processed (processed_at<?)", inbox),
    ] {
        assert_ordered(sql, &[range, row]).await;
    }
}

#[tokio::test]
async fn single_rows_are_written_by_seq() {
    let outbox = "SEARCH outbox USING INTEGER PRIMARY KEY (rowid=?)";
    let inbox = "SEARCH inbox USING INTEGER PRIMARY KEY (rowid=?)";
    for sql in [admin::REQUEUE_OUTBOX, admin::DISCARD_OUTBOX] {
        assert_steps(sql, &[outbox]).await;
    }
    for sql in [admin::REQUEUE_INBOX, admin::DISCARD_INBOX, inbox::RETRY, inbox::DEAD, inbox::DEAD_AFTER_END]
    {
        assert_steps(sql, &[inbox]).await;
    }
}

#[tokio::test]
async fn leases_are_found_by_name() {
    for pool in databases().await {
        let plan = plan(&pool, lease::TAKE).await;
        assert!(!plan.iter().any(|step| step.starts_with("SCAN lease")), "{plan:#?}");
    }
}

#[tokio::test]
async fn operators_lists_are_ranges_of_indexes() {
    for (sql, range) in [
        (operator::OUTBOX_PENDING, "SEARCH outbox USING INDEX outbox_pending (lane>? AND lane<?)"),
        (
            operator::OUTBOX_DELAYED,
            "SEARCH outbox USING INDEX outbox_due ((lane,deliver_at)>(?,?) AND lane<?)",
        ),
        (operator::OUTBOX_DEAD, "SEARCH outbox USING INDEX outbox_dead (seq>?)"),
        (
            operator::OUTBOX_SETTLED,
            "SEARCH outbox USING INDEX outbox_sent (processed_at>? AND processed_at<?)",
        ),
        (
            operator::INBOX_PENDING,
            "SEARCH inbox USING INDEX inbox_pending ((subscription,shard)>(?,?) AND subscription<?)",
        ),
        (operator::INBOX_DEAD, "SEARCH inbox USING INDEX inbox_dead (seq>?)"),
        (
            operator::INBOX_SETTLED,
            "SEARCH inbox USING INDEX inbox_processed (processed_at>? AND processed_at<?)",
        ),
    ] {
        assert_ordered(sql, &[range]).await;
    }
}

#[tokio::test]
async fn what_operators_ask_beside_lists_is_found_by_key_or_by_time() {
    let sent = "SEARCH outbox USING COVERING INDEX outbox_sent (processed_at>? AND processed_at<?)";
    let rows = "SEARCH outbox USING INDEX outbox_sent (processed_at>? AND processed_at<?)";
    assert_steps(operator::OUTBOX_THROUGHPUT, &[sent, rows]).await;
    let processed = "SEARCH inbox USING COVERING INDEX inbox_processed (processed_at>? AND processed_at<?)";
    let rows = "SEARCH inbox USING INDEX inbox_processed (processed_at>? AND processed_at<?)";
    assert_steps(operator::INBOX_THROUGHPUT, &[processed, rows]).await;
    let sent = "SEARCH outbox USING INDEX outbox_sent (processed_at>? AND processed_at<?)";
    assert_steps(operator::RESEND_BETWEEN, &[sent]).await;
    assert_steps(operator::OUTBOX_ROW, &["SEARCH outbox USING INDEX outbox_id (id=?)"]).await;
    assert_steps(operator::INBOX_ROW, &["SEARCH inbox USING INDEX inbox_id (subscription=? AND id=?)"]).await;
    let next = "SEARCH inbox USING COVERING INDEX inbox_id (subscription>? AND subscription<?)";
    assert_ordered(operator::NEXT_SUBSCRIPTION, &[next]).await;
    assert_steps(operator::REPLAY, &["SEARCH inbox USING INTEGER PRIMARY KEY (rowid=?)"]).await;
}

#[tokio::test]
async fn a_correlation_is_looked_for_along_indexes() {
    for (sql, range) in related::OUTBOX.into_iter().zip([
        "SEARCH outbox USING INDEX outbox_sent (processed_at>? AND processed_at<?)",
        "SCAN outbox USING INDEX outbox_pending",
        "SCAN outbox USING INDEX outbox_due",
        "SCAN outbox USING INDEX outbox_dead",
    ]) {
        assert_ordered(sql, &[range]).await;
    }
    for (sql, range) in related::INBOX.into_iter().zip([
        "SEARCH inbox USING INDEX inbox_processed (processed_at>? AND processed_at<?)",
        "SCAN inbox USING INDEX inbox_pending",
        "SCAN inbox USING INDEX inbox_dead",
    ]) {
        assert_ordered(sql, &[range]).await;
    }
}
