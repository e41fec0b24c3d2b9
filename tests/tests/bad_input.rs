//! Input that nobody can handle as it is: it ends dead with its reason, waits for those who can, and loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_events::broker::{Message, Source};
use distributed_events::{
    BusBuilder, DistributedEvent, HandlerSettings, IncidentKind, LocalBroker, RetryPolicy, admin,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, connect, quick, quick_inbox, quick_outbox};

#[derive(Serialize, Deserialize)]
struct Line {
    quantity: u32,
}

#[derive(Serialize, Deserialize)]
struct Order {
    number: i64,
    lines: Vec<Line>,
}

impl DistributedEvent for Order {
    const NAME: &'static str = "bad.order";
    const VERSION: u32 = 2;
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some((self.number % 10).to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct Refund {
    number: i64,
}

impl DistributedEvent for Refund {
    const NAME: &'static str = "bad.refund";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some((self.number % 10).to_string())
    }
}

/// Writes the numbers of events of one type.
fn handling<E: DistributedEvent>(
    builder: BusBuilder<Sqlite>,
    number: impl Fn(&E) -> i64 + Send + Sync + 'static,
) -> BusBuilder<Sqlite> {
    builder.on(HandlerSettings::new("billing"), move |event: E, tx, _context| {
        let number = number(&event);
        Box::pin(async move {
            let sql = "INSERT INTO effects (value) VALUES (?)";
            sqlx::query(sql).bind(number.to_string()).execute(&mut **tx).await?;
            Ok(())
        })
    })
}

fn orders(builder: BusBuilder<Sqlite>) -> BusBuilder<Sqlite> {
    handling(builder, |order: &Order| order.number)
}

fn refunds(builder: BusBuilder<Sqlite>) -> BusBuilder<Sqlite> {
    handling(builder, |refund: &Refund| refund.number)
}

fn message(name: &str, version: u32, session: &str, body: impl Into<Vec<u8>>) -> Message {
    let mut message = Message::default();
    message.message_id = Some(uuid::Uuid::new_v4().to_string());
    message.subject = Some(name.to_owned());
    message.session_id = Some(session.to_owned());
    message.properties.insert("eventversion".to_owned(), version.to_string());
    message.body = body.into();
    message
}

fn order(number: i64) -> Message {
    message(Order::NAME, 2, "good", format!("{{\"number\": {number}, \"lines\": []}}"))
}

/// A broker whose subscription is there, as the bus will find it.
fn broker_for(
    build: impl Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite>,
    pool: &SqlitePool,
) -> (MemoryBroker, Running) {
    let broker = MemoryBroker::new();
    let running = Running::start(build(quick(pool).broker(broker.clone())).build().unwrap());
    (broker, running)
}

fn send(broker: &MemoryBroker, message: Message) {
    broker.enqueue(&Source::new("events", "billing"), message);
}

async fn count(database: &Database, status: &str) -> i64 {
    let sql = "SELECT COUNT(*) FROM inbox WHERE status = ?";
    sqlx::query_scalar(sql).bind(status).fetch_one(&database.pool).await.unwrap()
}

async fn becomes(database: &Database, status: &str, rows: i64) {
    let what = format!("{rows} rows are {status}");
    eventually(&what, || count(database, status), |count| *count == rows).await;
}

async fn dead(database: &Database) -> Vec<admin::DeadRow> {
    admin::dead_rows(&database.pool, admin::Table::Inbox, &admin::DeadRowFilter::default()).await.unwrap()
}

#[tokio::test]
async fn a_body_that_does_not_decode_is_dead_with_its_path_and_never_tried_again() {
    let database = Database::new().await;
    let (broker, running) = broker_for(orders, &database.pool);
    let order = |lines: &str| format!("{{\"number\": 1, \"lines\": {lines}}}");
    let bodies = [
        (order("[{\"quantity\": 1}, {\"quantity\": \"two\"}]").into_bytes(), "`lines[1].quantity`"),
        (order("[{}]").into_bytes(), "`lines[0]`: missing field `quantity`"),
        (order("[{\"quantity\": -1}]").into_bytes(), "`lines[0].quantity`"),
        (b"{\"number\": 1, \"lines\": [".to_vec(), "EOF"),
        (b"{} {}".to_vec(), "missing field"),
        (format!("{} trailing", order("[]")).into_bytes(), "trailing characters"),
        (Vec::new(), "EOF"),
        (b"not json at all".to_vec(), "expected"),
        (vec![0xff, 0xfe, 0x00, 0x01], "can't be decoded"),
        ("[".repeat(10_000).into_bytes(), "can't be decoded"),
    ];
    for (body, _) in &bodies {
        send(&broker, message(Order::NAME, 2, "good", body.clone()));
    }
    send(&broker, self::order(7));
    becomes(&database, "processed", 1).await;
    becomes(&database, "dead", 10).await;
    running.stop().await.unwrap();
    for (row, (body, says)) in dead(&database).await.into_iter().zip(bodies) {
        assert!(
            row.reason.contains("the body can't be decoded at") && row.reason.contains(says),
            "{}",
            row.reason
        );
        assert_eq!((row.attempts, row.data), (1, body), "it keeps its bytes");
    }
    assert_eq!(database.effects().await, ["7"], "its session goes on");
}

#[tokio::test]
async fn a_version_that_nobody_reads_is_dead() {
    let database = Database::new().await;
    let (broker, running) = broker_for(orders, &database.pool);
    let body = "{\"number\": 1, \"lines\": []}";
    send(&broker, message(Order::NAME, 1, "a", body));
    send(&broker, message(Order::NAME, 3, "a", body));
    send(&broker, order(2));
    becomes(&database, "dead", 2).await;
    becomes(&database, "processed", 1).await;
    running.stop().await.unwrap();
    let reasons: Vec<_> = dead(&database).await.into_iter().map(|row| row.reason).collect();
    assert!(
        reasons[0].contains("version 1 of bad.order") && reasons[0].contains("upcast_from"),
        "{reasons:?}"
    );
    assert!(reasons[1].starts_with("no handler for version 3") && reasons[1].contains("is 2"), "{reasons:?}");
}

#[tokio::test]
async fn an_event_that_nobody_handles_is_dead() {
    let database = Database::new().await;
    let (broker, running) = broker_for(orders, &database.pool);
    send(&broker, message("bad.unknown", 1, "good", "{}"));
    send(&broker, order(2));
    becomes(&database, "dead", 1).await;
    becomes(&database, "processed", 1).await;
    running.stop().await.unwrap();
    let row = dead(&database).await.remove(0);
    assert_eq!(row.reason, "no handler for bad.unknown in subscription billing");
    assert_eq!((row.attempts, row.data.as_slice()), (0, &b"{}"[..]));
}

#[tokio::test]
async fn a_subscription_declared_to_ignore_what_nobody_handles_ignores_names_and_not_versions() {
    let database = Database::new().await;
    let build = |builder| orders(builder).ignore_unknown_events("billing");
    let (broker, running) = broker_for(build, &database.pool);
    send(&broker, message("bad.unknown", 1, "good", "{}"));
    send(&broker, message("bad.unknown", 1, "good", "{}"));
    send(&broker, message(Order::NAME, 3, "good", "{}"));
    send(&broker, order(2));
    becomes(&database, "processed", 3).await;
    becomes(&database, "dead", 1).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["2"]);
}

/// Another instance, as its last announcement left it.
async fn announce(database: &Database, event: &str, version: u32) {
    let handles =
        format!("[{{\"subscription\": \"billing\", \"event\": \"{event}\", \"version\": {version}}}]");
    let sql = "INSERT INTO distributed_events_instances (id, until, lasts, handles) \
        VALUES (randomblob(16), unixepoch() * 1000 + 60000, 60000, ?)";
    sqlx::query(sql).bind(handles).execute(&database.pool).await.unwrap();
}

#[tokio::test]
async fn what_another_live_instance_handles_waits_for_it_and_blocks_its_session() {
    let database = Database::new().await;
    announce(&database, Refund::NAME, 1).await;
    announce(&database, Order::NAME, 3).await;
    let told = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&told);
    let build = move |builder: BusBuilder<Sqlite>| {
        let tells = Arc::clone(&tells);
        orders(builder).on_incident(move |incident| {
            if incident.kind == IncidentKind::WaitingForInstance {
                tells.store(true, Ordering::Relaxed);
            }
        })
    };
    // What the other instance of this test never takes, since it is none.
    sqlx::query(
        "CREATE TRIGGER one AFTER INSERT ON inbox BEGIN UPDATE inbox SET shard = 3 WHERE seq = NEW.seq; END",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let (broker, running) = broker_for(build, &database.pool);
    send(&broker, message(Refund::NAME, 1, "a", "{\"number\": 1}"));
    send(&broker, message(Order::NAME, 2, "a", "{\"number\": 2, \"lines\": []}"));
    send(&broker, message(Order::NAME, 3, "b", "{}"));
    eventually("it is told", || async { told.load(Ordering::Relaxed) }, |told| *told).await;
    assert_eq!((count(&database, "pending").await, count(&database, "dead").await), (3, 0));
    running.stop().await.unwrap();

    // The one that handles refunds comes; the one that handles version 3 is gone.
    sqlx::query("DELETE FROM distributed_events_instances").execute(&database.pool).await.unwrap();
    let (_broker, running) = broker_for(|builder| refunds(orders(builder)), &database.pool);
    becomes(&database, "processed", 2).await;
    becomes(&database, "dead", 1).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["1", "2"], "in the order of their session");
}

#[tokio::test]
async fn two_instances_that_handle_different_events_hand_each_other_what_they_can_not() {
    let database = Database::new().await;
    let second = Duration::from_secs(1);
    let inbox = || quick_inbox().lease_time(second).handler_timeout(Duration::from_millis(200));
    let brisk = || quick(&database.pool).inbox(inbox()).outbox(quick_outbox().lease_time(second));
    let broker = LocalBroker::new();
    let first = orders(brisk().broker(broker.clone())).build().unwrap();
    let second = refunds(brisk().broker(broker)).build().unwrap();
    let first = Running::start(first);
    let live = "SELECT COUNT(*) FROM distributed_events_instances";
    eventually("the first lives", || database.number(live), |live| *live == 1).await;
    // The first has every shard, and has not yet heard of the second when its events come.
    let second = Running::start(second);
    eventually("both live", || database.number(live), |live| *live == 2).await;
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for number in 0..20 {
        Order { number, lines: Vec::new() }.publish(&mut tx).await.unwrap();
        Refund { number: number + 100 }.publish(&mut tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    becomes(&database, "processed", 40).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    let effects: Vec<i64> = database.effects().await.iter().map(|value| value.parse().unwrap()).collect();
    for session in 0..10 {
        let seen: Vec<_> = effects.iter().copied().filter(|number| number % 10 == session).collect();
        assert_eq!(seen, [session, session + 100, session + 10, session + 110], "session {session}");
    }
}

#[tokio::test]
async fn a_file_that_is_moved_away_and_back_costs_time_and_no_event() {
    let database = Database::new().await;
    let away = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicBool::new(false));
    let (hangs, tells) = (Arc::clone(&away), Arc::clone(&told));
    let retry =
        RetryPolicy::default().attempts(1000).initial(Duration::from_millis(1)).max(Duration::from_millis(5));
    let settings = HandlerSettings::new("billing").timeout(Duration::from_millis(20)).retry(retry);
    let bus = quick(&database.pool)
        .inbox(quick_inbox().backoff(Duration::from_millis(5), Duration::from_millis(50)))
        .broker(LocalBroker::new())
        // Each time it is cut off a connection is closed, and another one has to be opened.
        .on(settings, move |event: Refund, tx, _context| {
            let hangs = hangs.load(Ordering::Relaxed);
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                let sql = "INSERT INTO effects (value) VALUES (?)";
                sqlx::query(sql).bind(event.number.to_string()).execute(&mut **tx).await?;
                Ok(())
            })
        })
        .on_incident(move |incident| {
            if incident.message.contains("unable to open database file") {
                tells.store(true, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    eventually(
        "it runs",
        || database.number("SELECT COUNT(*) FROM distributed_events_instances"),
        |n| *n > 0,
    )
    .await;
    let aside = database.path().with_extension("aside");
    away.store(true, Ordering::Relaxed);
    std::fs::rename(database.path(), &aside).unwrap();
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Refund::publish_all(&mut tx, (0..20).map(|number| Refund { number })).await.unwrap();
    tx.commit().await.unwrap();
    eventually("it is told", || async { told.load(Ordering::Relaxed) }, |told| *told).await;
    std::fs::rename(&aside, database.path()).unwrap();
    away.store(false, Ordering::Relaxed);
    becomes(&database, "processed", 20).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await.len(), 20);
}

#[tokio::test]
async fn a_database_that_can_only_be_read_is_an_error_at_the_start() {
    let database = Database::new().await;
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Refund { number: 1 }.publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let options = database.pool.connect_options().as_ref().clone().read_only(true);
    let reading = sqlx::sqlite::SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let bus = refunds(quick(&reading).broker(LocalBroker::new())).build().unwrap();
    let error = bus.run_until(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("readonly"), "{error}");

    let writing = connect(&database.path(), 1).await;
    let running = Running::start(refunds(quick(&writing).broker(LocalBroker::new())).build().unwrap());
    becomes(&database, "processed", 1).await;
    running.stop().await.unwrap();
}
