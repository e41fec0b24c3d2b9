//! Rule 2 with transactions that are really open.

use distributed_events::storage::Storage;
use sqlx::{PgConnection, Postgres};
use tests::conformance::{
    Fixture, SUBSCRIPTION, bodies, event, inbox_of, ingest, of_session, pending, publish,
};
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tokio::sync::Mutex;

type Database = PgDatabase<true>;
type Horizon = <Postgres as Storage>::Horizon;

/// A horizon taken now, and the connection that asks for it.
async fn horizon(database: &Database) -> Mutex<(sqlx::pool::PoolConnection<Postgres>, Horizon)> {
    let mut conn = database.conn().await;
    let horizon = Postgres::horizon(&mut conn).await.unwrap();
    Mutex::new((conn, horizon))
}

async fn has_passed(horizon: &Mutex<(sqlx::pool::PoolConnection<Postgres>, Horizon)>) -> bool {
    let (conn, horizon) = &mut *horizon.lock().await;
    Postgres::has_passed(conn, horizon).await.unwrap()
}

/// Enough time, by the database's clock, for a horizon without anybody in its way to pass.
async fn two_seconds(database: &Database) {
    let begun = database.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
    let sql = format!("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint - {begun}");
    eventually("two seconds pass", || database.number(&sql), |passed| *passed > 2_000).await;
}

async fn assert_blocks(
    database: &Database,
    horizon: &Mutex<(sqlx::pool::PoolConnection<Postgres>, Horizon)>,
) {
    assert!(!has_passed(horizon).await);
    two_seconds(database).await;
    for _ in 0..3 {
        assert!(!has_passed(horizon).await, "the transaction that owns the missing number is open");
    }
}

async fn assert_passes(horizon: &Mutex<(sqlx::pool::PoolConnection<Postgres>, Horizon)>) {
    eventually("the horizon passes", || has_passed(horizon), |passed| *passed).await;
}

#[tokio::test]
async fn a_late_publisher_holds_the_outbox_up() {
    let database = Database::fresh().await;
    let mut late = database.pool().begin().await.unwrap();
    Postgres::insert_outbox(&mut late, &[event("late")]).await.unwrap();
    publish(&database, &[event("next")]).await;
    assert_eq!(bodies(&pending(&database).await), ["next"]);
    let horizon = horizon(&database).await;
    assert_blocks(&database, &horizon).await;
    late.commit().await.unwrap();
    assert_passes(&horizon).await;
    assert_eq!(bodies(&pending(&database).await), ["late", "next"]);
}

/// The same where the late one writes in a savepoint only, which has an id of its own.
#[tokio::test]
async fn a_late_ingest_holds_the_inbox_up() {
    let database = Database::fresh().await;
    let mut late = database.pool().begin().await.unwrap();
    let insert = "SAVEPOINT a; INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, session_id) \
        VALUES ('billing', gen_random_uuid(), 'm', 'e', 'late', 10, 's')";
    Database::run(&mut late, insert).await.unwrap();
    ingest(&database, &[of_session("s", "next")]).await;
    let horizon = horizon(&database).await;
    assert_blocks(&database, &horizon).await;
    late.rollback().await.unwrap();
    assert_passes(&horizon).await;
    assert_eq!(inbox_of(&database, "s").await.len(), 1);
    assert_eq!(SUBSCRIPTION, "billing");
}

async fn has_an_id(conn: &mut PgConnection) -> bool {
    let sql = "SELECT count(pg_current_xact_id_if_assigned()::text)";
    Database::numbers(conn, sql).await[0] > 0
}

/// nextval comes before the transaction's id: an id taken at once would be smaller than the late one's.
#[tokio::test]
async fn a_number_without_a_transaction_id_is_waited_for() {
    let database = Database::fresh().await;
    let nextval = "SELECT nextval(pg_get_serial_sequence('outbox', 'seq'))";
    // The first is written to the log, with an id; the next thirty are not.
    database.number(nextval).await;
    let mut late = database.pool().begin().await.unwrap();
    let seq = Database::numbers(&mut late, nextval).await[0];
    assert!(!has_an_id(&mut late).await, "or this test shows nothing");
    publish(&database, &[event("next")]).await;
    assert!(pending(&database).await[0].seq > seq);
    let horizon = horizon(&database).await;
    assert!(!has_passed(&horizon).await);
    let insert = format!(
        "INSERT INTO outbox (seq, id, event_type, event_data) OVERRIDING SYSTEM VALUE \
         VALUES ({seq}, gen_random_uuid(), 'e', 'late')"
    );
    Database::run(&mut late, &insert).await.unwrap();
    assert!(has_an_id(&mut late).await);
    assert_blocks(&database, &horizon).await;
    late.commit().await.unwrap();
    assert_passes(&horizon).await;
    assert_eq!(bodies(&pending(&database).await), ["late", "next"]);
}

/// A report or a dump that runs for hours.
#[tokio::test]
async fn a_reader_holds_nothing_up() {
    let database = Database::fresh().await;
    let mut reader = database.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    Database::numbers(&mut reader, "SELECT count(*) FROM outbox").await;
    publish(&database, &[event("1")]).await;
    let horizon = horizon(&database).await;
    assert_passes(&horizon).await;
    Database::numbers(&mut reader, "SELECT count(*) FROM outbox").await;
}

/// Whoever comes later is not waited for.
#[tokio::test]
async fn a_later_writer_holds_nothing_up() {
    let database = Database::fresh().await;
    publish(&database, &[event("1")]).await;
    let horizon = horizon(&database).await;
    two_seconds(&database).await;
    has_passed(&horizon).await;
    let mut later = database.pool().begin().await.unwrap();
    Postgres::insert_outbox(&mut later, &[event("2")]).await.unwrap();
    assert_passes(&horizon).await;
}
