//! Hints between processes by LISTEN and NOTIFY. Each listener here is a process of its own as far as PostgreSQL can tell.

use std::sync::{Arc, LazyLock, Mutex};

use distributed_events::health::{Holder, SubscriptionHealth};
use distributed_events::storage::{Hint, HintStorage};
use distributed_events::{BusBuilder, DistributedEvent, EventBus, HandlerSettings, LocalBroker};
use sqlx::Postgres;
use tests::broker_conformance::Noted;
use tests::conformance::Fixture;
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What is committed goes through the whole process, so one test's buses would tell of another's events.
static ALONE: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(Default::default);

struct Listener {
    me: Uuid,
    heard: Arc<Mutex<Vec<Hint>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens once it has heard everything, as it does at the beginning.
    async fn start(database: &PgDatabase) -> Self {
        let (me, heard, pool) = (Uuid::new_v4(), Arc::<Mutex<Vec<Hint>>>::default(), database.pool().clone());
        let noted = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            Postgres::listen(&pool, me, |hint| noted.lock().unwrap().push(hint)).await.unwrap();
        });
        let listener = Self { me, heard, task };
        listener.hears(&[Hint::Published, Hint::Received]).await;
        listener
    }

    /// Waits until it has heard this, and forgets it.
    async fn hears(&self, expected: &[Hint]) {
        eventually("heard", || async { self.heard.lock().unwrap().clone() }, |heard| heard == expected).await;
        self.heard.lock().unwrap().clear();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn notify(database: &PgDatabase, from: Uuid, hints: &[Hint]) {
    Postgres::notify(&mut *database.conn().await, from, hints).await.unwrap();
}

fn on(database: &PgDatabase, broker: &LocalBroker) -> BusBuilder<Postgres> {
    EventBus::builder(database.pool().clone()).broker(broker.clone())
}

/// One that does nothing with what it handles.
fn handling(database: &PgDatabase, broker: &LocalBroker) -> EventBus<Postgres> {
    let settings = HandlerSettings::new("audit");
    on(database, broker)
        .on(settings, |_: Noted, _tx, _context| Box::pin(std::future::ready(Ok(()))))
        .build()
        .unwrap()
}

/// Waits until a bus holds the leases of its lane and of all shards.
async fn holds_everything(bus: &EventBus<Postgres>) {
    eventually(
        "it holds every lease",
        || bus.health(),
        |health| {
            let all = |subscription: &SubscriptionHealth| {
                subscription.shards_here > 0 && subscription.shards_free + subscription.shards_elsewhere == 0
            };
            // It has none of either before it runs.
            health.lanes.first().is_some_and(|lane| lane.lease == Holder::Here)
                && health.subscriptions.first().is_some_and(all)
        },
    )
    .await;
}

/// Publishes an event by one bus and waits until another has handled so many.
async fn handled(database: &PgDatabase, by: &EventBus<Postgres>, at: &EventBus<Postgres>, count: u64) {
    let mut tx = database.pool().begin().await.unwrap();
    Noted::new(count).publish(&mut tx).await.unwrap();
    by.commit(tx).await.unwrap();
    eventually("handled", || async { at.stats().processed }, |processed| *processed >= count).await;
}

#[tokio::test]
async fn nobody_is_told_of_what_one_bus_deals_with_alone() {
    let _alone = ALONE.lock().await;
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    let bus = handling(&database, &LocalBroker::new());
    let alone = async {
        holds_everything(&bus).await;
        for count in 1..=3 {
            handled(&database, &bus, &bus, count).await;
        }
        notify(&database, Uuid::nil(), &[Hint::Published]).await;
        listener.hears(&[Hint::Published]).await;
    };
    bus.run_until(alone).await.unwrap();
}

#[tokio::test]
async fn others_are_told_of_what_they_deal_with() {
    let _alone = ALONE.lock().await;
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    let broker = LocalBroker::new();
    let leader = handling(&database, &broker);
    let publisher = on(&database, &broker).publishes::<Noted>().build().unwrap();
    let with_others = async {
        holds_everything(&leader).await;
        let publishing = async {
            eventually("it runs", || publisher.health(), |health| health.ready).await;
            handled(&database, &publisher, &leader, 1).await;
            listener.hears(&[Hint::Published, Hint::Received]).await;
        };
        publisher.run_until(publishing).await.unwrap();
    };
    leader.run_until(with_others).await.unwrap();
}

#[tokio::test]
async fn a_hint_reaches_everybody_but_its_sender() {
    let database = PgDatabase::fresh().await;
    let [one, two] = [Listener::start(&database).await, Listener::start(&database).await];
    notify(&database, one.me, &[Hint::Published]).await;
    two.hears(&[Hint::Published]).await;
    notify(&database, two.me, &[Hint::Received, Hint::Published]).await;
    one.hears(&[Hint::Published, Hint::Received]).await;
    assert!(two.heard.lock().unwrap().is_empty());
    notify(&database, Uuid::nil(), &[]).await;
    notify(&database, Uuid::nil(), &[Hint::Received]).await;
    one.hears(&[Hint::Received]).await;
    two.hears(&[Hint::Received]).await;
}

#[tokio::test]
async fn what_was_said_while_the_connection_was_lost_counts_as_heard() {
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(database.number(kill).await, 1);
    listener.hears(&[Hint::Published, Hint::Received]).await;
    notify(&database, Uuid::nil(), &[Hint::Published]).await;
    listener.hears(&[Hint::Published]).await;
}

#[tokio::test]
async fn another_applications_words_on_the_channel_are_passed_over() {
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    for words in ["", "published", "nonsense of nobody", "received \u{1F980}"] {
        database.execute(&format!("NOTIFY distributed_events, '{words}'")).await;
    }
    listener.hears(&[Hint::Received]).await;
}
