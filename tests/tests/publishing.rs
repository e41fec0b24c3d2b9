//! Publishing: in the caller's transaction and nowhere else, with what was asked for, and nothing that can't travel.

use std::sync::{Arc, Mutex};

use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, EventContext, EventId, HandlerSettings, LocalBroker, PublishError,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

#[path = "publishing/correlation.rs"]
mod correlation;
#[path = "publishing/options.rs"]
mod options;
#[path = "publishing/refusals.rs"]
mod refusals;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Happened {
    number: i64,
    session: Option<String>,
}

impl DistributedEvent for Happened {
    const NAME: &'static str = "publishing.happened";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        self.session.clone()
    }
}

fn happened(number: i64) -> Happened {
    Happened { number, session: None }
}

async fn begin(pool: &SqlitePool) -> Transaction<'static, Sqlite> {
    pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
}

async fn outbox(database: &Database) -> Vec<String> {
    let sql = "SELECT json_extract(event_data, '$.number') FROM outbox ORDER BY seq";
    let rows = sqlx::query(sql).fetch_all(&database.pool).await.unwrap();
    rows.iter().map(|row| row.get::<i64, _>(0).to_string()).collect()
}

/// What handlers were given.
type Seen = Arc<Mutex<Vec<(i64, EventContext)>>>;

/// A bus that keeps what its handler is given.
fn seeing(database: &Database) -> (BusBuilder<Sqlite>, Seen) {
    let seen = Seen::default();
    let sees = Arc::clone(&seen);
    let builder = quick(&database.pool).broker(LocalBroker::new()).on(
        HandlerSettings::new("audit"),
        move |event: Happened, _tx, context| {
            sees.lock().unwrap().push((event.number, context.clone()));
            Box::pin(async { Ok(()) })
        },
    );
    (builder, seen)
}

async fn sees(seen: &Seen, count: usize) -> Vec<(i64, EventContext)> {
    let what = format!("{count} events are handled");
    eventually(&what, || async { seen.lock().unwrap().clone() }, |seen| seen.len() >= count).await
}

#[tokio::test]
async fn a_rolled_back_transaction_leaves_no_event() {
    let database = Database::new().await;
    let mut tx = begin(&database.pool).await;
    happened(1).publish(&mut tx).await.unwrap();
    assert_eq!(sqlx::query("SELECT 1 FROM outbox").fetch_all(&mut *tx).await.unwrap().len(), 1);
    tx.rollback().await.unwrap();
    let mut tx = begin(&database.pool).await;
    happened(2).publish(&mut tx).await.unwrap();
    drop(tx);
    assert!(outbox(&database).await.is_empty());
}

#[tokio::test]
async fn many_events_are_written_in_order_and_reported_in_order() {
    let database = Database::new().await;
    let mut tx = begin(&database.pool).await;
    // More than one statement takes on SQLite.
    let ids = Happened::publish_all(&mut tx, (0..2500).map(happened)).await.unwrap();
    assert!(Happened::publish_all(&mut tx, Vec::<Happened>::new()).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    assert_eq!(outbox(&database).await, (0..2500).map(|number| number.to_string()).collect::<Vec<_>>());
    let written: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT id FROM outbox ORDER BY seq").fetch_all(&database.pool).await.unwrap();
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid().as_bytes().to_vec()).collect();
    assert_eq!(ids, written);
}

#[tokio::test]
async fn of_many_events_all_are_written_or_none() {
    let database = Database::new().await;
    let trigger = "CREATE TRIGGER refuses BEFORE INSERT ON outbox \
        WHEN json_extract(NEW.event_data, '$.number') IN (3, 1200) BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    sqlx::query(trigger).execute(&database.pool).await.unwrap();
    for count in [5, 1500] {
        let mut tx = begin(&database.pool).await;
        happened(-count).publish(&mut tx).await.unwrap();
        let skips = |number: &i64| count == 5 || *number != 3;
        let events = (0..count).filter(skips).map(happened);
        let error = Happened::publish_all(&mut tx, events).await.unwrap_err();
        assert!(error.to_string().contains("not this one"), "{error}");
        // The transaction lives on, and what was published before is still in it.
        happened(-count - 1).publish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(outbox(&database).await, ["-5", "-6", "-1500", "-1501"]);
    let mut tx = begin(&database.pool).await;
    let session = Some("~07".to_owned());
    let events = [happened(10), Happened { number: 11, session }, happened(12)];
    assert!(matches!(Happened::publish_all(&mut tx, &events).await, Err(PublishError::Refused { .. })));
    tx.commit().await.unwrap();
    assert_eq!(outbox(&database).await.len(), 4, "one that can't travel keeps back all");
}

#[tokio::test]
async fn an_id_published_twice_is_a_duplicate_and_leaves_the_transaction_usable() {
    let database = Database::new().await;
    let id = EventId::new();
    let options = || distributed_events::PublishOptions::new().id(id);
    let mut tx = begin(&database.pool).await;
    assert_eq!(happened(1).publish_with(&mut tx, options()).await.unwrap(), id);
    tx.commit().await.unwrap();

    let mut tx = begin(&database.pool).await;
    happened(2).publish(&mut tx).await.unwrap();
    let error = happened(3).publish_with(&mut tx, options()).await.unwrap_err();
    assert!(matches!(&error, PublishError::Duplicate { id: found } if *found == id.to_string()), "{error}");
    happened(4).publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(outbox(&database).await, ["1", "2", "4"]);
}

#[tokio::test]
async fn a_users_pool_of_one_connection_is_enough_for_everything() {
    let database = Database::with_connections(1).await;
    let pool = database.pool.clone();
    let bus = quick(&pool)
        .broker(LocalBroker::new())
        .on(HandlerSettings::new("audit"), |event: Happened, tx, _context| {
            Box::pin(async move {
                let sql = "INSERT INTO effects (value) VALUES (?)";
                sqlx::query(sql).bind(event.number.to_string()).execute(&mut **tx).await?;
                if event.number < 100 {
                    happened(event.number + 100).publish(tx).await?;
                }
                Ok(())
            })
        })
        .build()
        .unwrap();
    let running = Running::start(bus.clone());
    for number in 0..20 {
        let mut tx = begin(&pool).await;
        happened(number).publish(&mut tx).await.unwrap();
        bus.commit(tx).await.unwrap();
    }
    // The only connection is away for all of the way.
    let kept = pool.acquire().await.unwrap();
    let done = || async { bus.stats().processed };
    eventually("40 events are handled", done, |processed| *processed >= 40).await;
    drop(kept);
    running.stop().await.unwrap();
    let mut effects = database.effects().await;
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 40);
}

#[tokio::test]
async fn a_transaction_that_read_first_and_lost_its_snapshot_is_told_to_begin_immediate() {
    let database = Database::new().await;
    let mut tx = database.pool.begin().await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM effects").fetch_one(&mut *tx).await.unwrap();
    sqlx::query("INSERT INTO effects (value) VALUES ('between')").execute(&database.pool).await.unwrap();
    let error = happened(1).publish(&mut tx).await.unwrap_err();
    assert!(error.to_string().contains("begin_with(\"BEGIN IMMEDIATE\")"), "{error}");
    tx.rollback().await.unwrap();
    assert!(outbox(&database).await.is_empty());
}

#[tokio::test]
async fn a_transaction_that_has_ended_takes_no_event() {
    let database = Database::new().await;
    sqlx::query("CREATE TABLE once (value TEXT UNIQUE)").execute(&database.pool).await.unwrap();
    sqlx::query("INSERT INTO once VALUES ('a')").execute(&database.pool).await.unwrap();
    let mut tx = begin(&database.pool).await;
    let swallowed = sqlx::query("INSERT OR ROLLBACK INTO once VALUES ('a')").execute(&mut *tx).await;
    assert!(swallowed.is_err());
    let error = happened(1).publish(&mut tx).await.unwrap_err();
    assert!(error.to_string().contains("no longer alive"), "{error}");
    drop(tx);
    assert!(outbox(&database).await.is_empty());
}

#[tokio::test]
async fn publishing_without_the_tables_names_the_migration() {
    let directory = tempfile::tempdir().unwrap();
    let pool = tests::service::connect(&directory.path().join("empty.db"), 2).await;
    let mut tx = begin(&pool).await;
    let error = happened(1).publish(&mut tx).await.unwrap_err();
    assert!(error.to_string().contains("EventBus::migrate(&pool)"), "{error}");
    tx.rollback().await.unwrap();
    EventBus::migrate(&pool).await.unwrap();
    let mut tx = begin(&pool).await;
    happened(1).publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}
