//! How fast the relays are over Azure Service Bus's protocol, beside what bounds them: the AMQP library alone, the
//! database's inserts alone, and what depth and batch allow over a wire that takes 30 ms for a round trip.
//!
//! `cargo bench -p tests --bench service_bus -- [ROUNDS]`, after `cargo build --release -p servicebus-emulator`; events
//! of 1 KiB, the emulator as a process of its own, SQLite in a temporary folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap here is a failed measurement")]

#[path = "service_bus/floors.rs"]
mod floors;
#[path = "service_bus/transport.rs"]
mod transport;
#[path = "service_bus/waiting.rs"]
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use distributed_events::broker::Source;
use distributed_events::storage::{PoolInbox, PoolSettings};
use distributed_events::{
    Broker, DistributedEvent, Envelope, EventId, InboxRelay, InboxSettings, OutboxRelay, OutboxSettings,
    ServiceBus, Shutdown, Storage,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::Sqlite;
use tests::emulator::Emulator;
use tests::proxy::Proxy;
use tests::service::Database;

const EVENTS: usize = 20_000;
/// Fewer where the wire is slow.
const SLOW_EVENTS: usize = 8_000;
const BATCH: usize = 100;
const DEPTH: usize = 8;
/// Over the slow wire, small enough for depth and batch to be what bounds it, and not this machine.
const SLOW_BATCH: usize = 10;
const ROUND_TRIP: Duration = Duration::from_millis(30);

/// A kibibyte, as JSON.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
struct Kibibyte {
    text: String,
}

fn kibibyte() -> Kibibyte {
    Kibibyte { text: "x".repeat(1024 - r#"{"text":""}"#.len()) }
}

#[tokio::main]
async fn main() {
    // Cargo says `--bench`, too.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    println!("events of 1 KiB, batches of {BATCH}, {DEPTH} under way, {rounds} rounds of {EVENTS}, medians");
    let (mut send, mut relay, mut drain) = (Vec::new(), Vec::new(), Vec::new());
    let (mut receive, mut wire, mut database) = (Vec::new(), Vec::new(), Vec::new());
    let (mut slow, mut slow_wire) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let emulator = emulator();
        let alone = floors::send_alone(emulator.amqp(), EVENTS, BATCH, DEPTH).await;
        let service_bus =
            |text: &str| -> Arc<dyn Broker> { Arc::new(ServiceBus::from_connection_string(text).unwrap()) };
        // One for all, so that none goes while what it has settled is still on its way.
        let broker = service_bus(&emulator.connection_string());
        let near = || Arc::clone(&broker);
        let relayed = relay_outbox(near(), "events", EVENTS, BATCH).await;
        let drained = relay_outbox(Arc::new(floors::Instantly::default()), "events", EVENTS, BATCH).await;
        send.push((send_alone(near()).await, alone));
        relay.push((relayed, alone));
        drain.push((relayed, drained));
        let source = || Source::new("events", "audit");
        let received = receive_alone(near().as_ref(), &source()).await;
        relay_outbox(near(), "events", EVENTS, BATCH).await;
        let waiting = Arc::new(waiting::Waiting::on(near()));
        let stored = relay_inbox(Arc::clone(&waiting) as Arc<dyn Broker>, source()).await;
        let whole = EVENTS as f64 / stored;
        database.push((whole - waiting.seconds(), whole));
        let inserted =
            relay_inbox(Arc::new(floors::Instantly::new(EVENTS, &kibibyte().text)), source()).await;
        receive.push((stored, inserted));
        wire.push((stored, received));
        let proxy = Proxy::before(emulator.amqp()).await;
        proxy.delay(ROUND_TRIP / 2);
        let far = emulator.connection_string_at(proxy.address());
        let relayed = relay_outbox(service_bus(&far), "sink", SLOW_EVENTS, SLOW_BATCH).await;
        slow.push((relayed, (DEPTH * SLOW_BATCH) as f64 / floors::round_trip(ROUND_TRIP / 2).await));
        let alone = floors::send_alone(proxy.address(), SLOW_EVENTS, SLOW_BATCH, DEPTH).await;
        slow_wire.push((relayed, alone));
    }
    tell("the transport's sends, beside fe2o3-amqp alone with as many under way", send);
    tell("outbox relay with its database, beside fe2o3-amqp alone", relay);
    tell("outbox relay, beside the same relay on a broker that takes no time", drain);
    tell("inbox relay, beside the same relay on a broker that takes no time", receive);
    tell("inbox relay, beside receiving and settling alone", wire);
    share("inbox relay, its time with the database in the whole", database);
    tell(
        &format!("outbox relay over 30 ms, beside {DEPTH} x {SLOW_BATCH} events in each measured one"),
        slow,
    );
    tell("outbox relay over 30 ms, beside fe2o3-amqp alone over the same", slow_wire);
}

/// One line: the median of a part's share in the whole.
fn share(what: &str, measured: Vec<(f64, f64)>) {
    let mut shares: Vec<_> = measured.iter().map(|(part, whole)| part / whole).collect();
    shares.sort_by(f64::total_cmp);
    println!("{what}: {:.2}", shares[shares.len() / 2]);
}

/// One line: both numbers and their ratio, whose median is of the rounds' own ratios.
fn tell(what: &str, measured: Vec<(f64, f64)>) {
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut numbers: Vec<_> = measured.iter().map(of).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    println!("{what}: {:.0}/s, {:.0}/s: {:.2}", median(|m| m.0), median(|m| m.1), median(|m| m.0 / m.1));
}

fn emulator() -> Emulator {
    let subscription = json!({ "Name": "audit", "Properties": { "LockDuration": "PT1M" } });
    let topic = |name: &str, subscriptions: serde_json::Value| json!({ "Name": name, "Properties": {}, "Subscriptions": subscriptions });
    let topics = ["sink", "events"].map(|name| topic(name, json!([subscription])));
    Emulator::in_memory(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": topics }))
}

/// Events in a second that the transport sends, in batches that are there already, and nothing else.
async fn send_alone(broker: Arc<dyn Broker>) -> f64 {
    let database = Database::new().await;
    let store = Arc::new(PoolInbox::new(database.pool.clone()));
    let mut event =
        Envelope::new(EventId::new(), Kibibyte::NAME, serde_json::to_string(&kibibyte()).unwrap());
    event.topic = Some("sink".to_owned());
    transport::send(broker, store, &event, (EVENTS, BATCH, DEPTH)).await
}

/// Events in a second, from the first mark to the last: connecting is not counted.
async fn relay_outbox(broker: Arc<dyn Broker>, topic: &str, events: usize, batch: usize) -> f64 {
    let database = Database::new().await;
    for _ in 0..events / 1000 {
        let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Kibibyte::publish_all(&mut tx, &vec![kibibyte(); 1000]).await.unwrap();
        tx.commit().await.unwrap();
    }
    let pool = Sqlite::open(&database.pool, &PoolSettings::new(2, Duration::from_secs(5))).await.unwrap();
    let settings = OutboxSettings::default().batch_size(batch).in_flight(DEPTH);
    let (handle, stop) = Shutdown::new();
    let relay = OutboxRelay::new(pool, broker).default_topic(topic).settings(settings).run(stop);
    let relay = tokio::spawn(relay);
    // Rows are marked in about the order in which they were written.
    let first = "SELECT coalesce(min(seq), 0) FROM outbox WHERE status = 'pending'";
    let marked = wait(&database, first, |first| *first != 1).await - 1;
    let begun = Instant::now();
    wait(&database, first, |first| *first == 0).await;
    let rate = (events as i64 - marked) as f64 / begun.elapsed().as_secs_f64();
    handle.stop();
    relay.await.unwrap();
    rate
}

/// Events in a second, from the first that is asked for to the last that is stored.
async fn relay_inbox(broker: Arc<dyn Broker>, source: Source) -> f64 {
    let database = Database::new().await;
    let pool = Sqlite::open(&database.pool, &PoolSettings::new(2, Duration::from_secs(5))).await.unwrap();
    let (handle, stop) = Shutdown::new();
    let begun = Instant::now();
    let relay = InboxRelay::new(pool, broker, source).settings(InboxSettings::default());
    let relay = tokio::spawn(relay.run(stop));
    wait(&database, "SELECT coalesce(max(seq), 0) FROM inbox", |last| *last >= EVENTS as i64).await;
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    handle.stop();
    relay.await.unwrap();
    rate
}

/// Events in a second that are received and settled, and nothing else.
async fn receive_alone(broker: &dyn Broker, source: &Source) -> f64 {
    let begun = Instant::now();
    let mut receiver = broker.receiver(source).await.unwrap().unwrap();
    let mut count = 0;
    while count < EVENTS {
        let received = receiver.receive(200, Duration::from_secs(5)).await.unwrap();
        count += received.len();
        let tokens: Vec<_> = received.iter().map(|delivery| delivery.token).collect();
        receiver.complete(&tokens).await.unwrap();
    }
    EVENTS as f64 / begun.elapsed().as_secs_f64()
}

/// Looks rarely enough to cost little and often enough to tell.
async fn wait(database: &Database, sql: &'static str, come: impl Fn(&i64) -> bool) -> i64 {
    loop {
        let number = database.number(sql).await;
        if come(&number) {
            return number;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
