//! Wake-ups: an event is handled long before the next look at an idle table.
//!
//! An idle loop looks when its poll interval is over and when it renews its leases, here every two seconds. Each test
//! waits until the loop in question has just renewed and nothing else is due before the next time; what is handled
//! within a moment of its commit then was woken. A slow machine may spoil a try, so there are a few: without a wake-up
//! every one of them fails.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use distributed_events::{
    DistributedEvent, EventBus, HandlerSettings, InboxSettings, LocalBroker, OutboxSettings,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tests::broker_conformance::{Noted, note, noting};
use tests::eventually::eventually;
use tests::service::{Database, Running};
use tokio::sync::Mutex;

/// Hints go through the whole process, so one test would wake another's services.
static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// Published by the handler of [`Noted`].
#[derive(Serialize, Deserialize)]
struct FollowedUp {
    text: String,
}

impl DistributedEvent for FollowedUp {
    const NAME: &'static str = "test.followed-up";
}

const SOON: Duration = Duration::from_millis(250);

/// The hint of a publish is followed at once and then less and less closely: after this long the next look is as far off
/// as twice [`SOON`], but for a better hint.
const FORGOTTEN: Duration = Duration::from_millis(650);

/// The leases of the loops.
const RELAY: &str = "outbox:%";
const PROCESSOR: &str = "inbox:%";

fn slow(database: &Database, broker: &LocalBroker) -> distributed_events::BusBuilder<Sqlite> {
    let (idle, lease) = (Duration::from_secs(20), Duration::from_secs(6));
    EventBus::builder(database.pool.clone())
        .inbox(
            InboxSettings::default()
                .poll_interval(idle)
                .lease_time(lease)
                .handler_timeout(Duration::from_secs(1)),
        )
        .outbox(OutboxSettings::default().poll_interval(idle).lease_time(lease))
        .broker(broker.clone())
}

/// When the leases of a loop were last renewed.
async fn renewed(pool: &SqlitePool, leases: &'static str) -> i64 {
    let sql = "SELECT coalesce(max(until), 0) FROM distributed_events_leases WHERE owner IS NOT NULL AND name LIKE ?";
    sqlx::query_scalar(sql).bind(leases).fetch_one(pool).await.unwrap()
}

/// Waits until a loop has been idle from one renewal to the next, and has just renewed.
async fn idle(database: &Database, leases: &'static str) {
    eventually("it leads", || renewed(&database.pool, leases), |until| *until > 0).await;
    let mut last = renewed(&database.pool, leases).await;
    for _ in 0..2 {
        let look = || renewed(&database.pool, leases);
        last = eventually("the leases are renewed", look, |until| *until >= last + 1000).await;
    }
}

/// Publishes when a loop is idle, until an event has been handled soon after; panics when none is.
async fn handled_soon<F: Future<Output = ()>>(
    idle_one: (&Database, &'static str),
    to: &Database,
    mut publish: impl FnMut() -> F,
) {
    let mut waits = Vec::new();
    for number in 1..=4 {
        idle(idle_one.0, idle_one.1).await;
        publish().await;
        let committed = Instant::now();
        eventually("handled", || to.effects(), |effects| effects.len() >= number).await;
        waits.push(committed.elapsed());
        if waits[number - 1] < SOON {
            return;
        }
    }
    panic!("handled after {waits:?}");
}

async fn begin(database: &Database) -> Transaction<'static, Sqlite> {
    database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
}

#[tokio::test]
async fn the_commit_of_the_bus_wakes_relay_and_processor() {
    let _alone = ALONE.lock().await;
    let database = Database::new().await;
    let bus = noting(slow(&database, &LocalBroker::new()), "audit", |event: &Noted, _| event.text.clone())
        .build()
        .unwrap();
    let running = Running::start(bus.clone());
    // Longer than the hint of the publish is followed.
    let publish = || async {
        let mut tx = begin(&database).await;
        Noted::new("a").publish(&mut tx).await.unwrap();
        let published = Instant::now();
        let nothing = || async { published.elapsed() };
        eventually("the hint is forgotten", nothing, |elapsed| *elapsed > FORGOTTEN).await;
        bus.commit(tx).await.unwrap();
    };
    handled_soon((&database, RELAY), &database, publish).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_plain_commit_is_found_by_the_hint_of_its_publish() {
    let _alone = ALONE.lock().await;
    let database = Database::new().await;
    let bus = noting(slow(&database, &LocalBroker::new()), "audit", |event: &Noted, _| event.text.clone())
        .build()
        .unwrap();
    let running = Running::start(bus);
    let publish = || async {
        let mut tx = begin(&database).await;
        Noted::new("a").publish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    handled_soon((&database, RELAY), &database, publish).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_handler_publishes_wakes_the_relay_when_it_is_committed() {
    let _alone = ALONE.lock().await;
    let database = Database::new().await;
    let builder = slow(&database, &LocalBroker::new())
        .on(HandlerSettings::new("first"), |event: Noted, tx, _| {
            Box::pin(async move {
                FollowedUp { text: event.text }.publish(tx).await?;
                // The hint of the publish is over before the commit.
                tokio::time::sleep(FORGOTTEN).await;
                Ok(())
            })
        })
        .on(HandlerSettings::new("second"), |event: FollowedUp, tx, _| {
            Box::pin(async move { note(tx, &event.text).await })
        });
    let bus = builder.build().unwrap();
    let running = Running::start(bus.clone());
    let publish = || async {
        let mut tx = begin(&database).await;
        Noted::new("a").publish(&mut tx).await.unwrap();
        bus.commit(tx).await.unwrap();
        let first = "SELECT COUNT(*) FROM inbox WHERE subscription = 'first' AND status <> 'processed'";
        let came = "SELECT COUNT(*) FROM outbox WHERE event_type = 'test.followed-up'";
        let before = database.effects().await.len() as i64;
        eventually("the first is handled", || database.number(came), |came| *came > before).await;
        eventually("and committed", || database.number(first), |open| *open == 0).await;
    };
    handled_soon((&database, RELAY), &database, publish).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_delivery_into_another_database_wakes_its_processor() {
    let _alone = ALONE.lock().await;
    let (from, to) = (Database::new().await, Database::new().await);
    let broker = LocalBroker::new();
    let publisher = slow(&from, &broker).build().unwrap();
    let subscriber =
        noting(slow(&to, &broker), "audit", |event: &Noted, _| event.text.clone()).build().unwrap();
    let publishing = Running::start(publisher.clone());
    let subscribing = Running::start(subscriber);
    let publish = || async {
        let mut tx = begin(&from).await;
        Noted::new("a").publish(&mut tx).await.unwrap();
        publisher.commit(tx).await.unwrap();
    };
    handled_soon((&to, PROCESSOR), &to, publish).await;
    publishing.stop().await.unwrap();
    subscribing.stop().await.unwrap();
}
