//! Services of other processes: brokers that share nothing but databases.

use std::sync::{Arc, Mutex};

use distributed_events::storage::LocalStorage;
use tracing::field::{Field, Visit};

use super::*;

fn store(database: &Database) -> Arc<PoolInbox<Sqlite>> {
    Arc::new(PoolInbox::new(database.pool.clone()))
}

async fn recorded(database: &Database) -> Vec<(String, String, Vec<String>)> {
    let mut conn = database.pool.acquire().await.unwrap();
    let found = Sqlite::subscriptions(&mut conn).await.unwrap();
    found.into_iter().map(|found| (found.topic, found.name, found.events)).collect()
}

#[tokio::test]
async fn services_of_two_processes_reach_each_other_through_their_databases() {
    let [from, to] = [Database::new().await, Database::new().await];
    let publishing = publisher(&from, &LocalBroker::new().reaching(store(&to)));
    // Nobody takes this one, and the publisher has looked.
    publish(&from.pool, &Noted::of("s", "before")).await;
    all_sent(&from).await;
    let subscriber = Running::start(service(&to, &LocalBroker::new().reaching(store(&from)), "audit"));
    eventually("the publisher's database knows", || recorded(&from), |found| found.len() == 1).await;
    // Committed after the subscription was recorded, however soon, so it is delivered.
    publish_numbers(&from, 0..5).await;
    assert_eq!(effects(&to, 5).await, texts(0..5));
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

/// The publisher's database is away, or slow, when the subscriber starts, and nothing is ever sent from there.
#[tokio::test]
async fn a_store_that_can_not_be_told_at_the_start_is_told_later() {
    let [from, to] = [Database::new().await, Database::new().await];
    let lock = from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let subscriber = Running::start(service(&to, &LocalBroker::new().reaching(store(&from)), "audit"));
    // It has started all the same, having waited for less long than the lock is held.
    let live = "SELECT count(*) FROM distributed_events_instances";
    eventually("it runs", || to.number(live), |live| *live == 1).await;
    lock.rollback().await.unwrap();
    eventually("the publisher's database knows", || recorded(&from), |found| found.len() == 1).await;
    let publishing = publisher(&from, &LocalBroker::new().reaching(store(&to)));
    publish_numbers(&from, 0..5).await;
    assert_eq!(effects(&to, 5).await, texts(0..5));
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn a_recorded_store_that_is_not_attached_keeps_its_events() {
    let [from, to] = [Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let _known = service(&to, &broker, "audit");
    publisher(&from, &broker).stop().await.unwrap();
    // The publisher alone, in a process that has never heard of the other.
    let alone = publisher(&from, &LocalBroker::new());
    publish_numbers(&from, 0..5).await;
    all_sent(&from).await;
    owed(&from, 5).await;
    alone.stop().await.unwrap();
    let broker = LocalBroker::new();
    let subscriber = Running::start(service(&to, &broker, "audit"));
    let publishing = publisher(&from, &broker);
    assert_eq!(effects(&to, 5).await, texts(0..5));
    owed(&from, 0).await;
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_attached_later_gets_what_it_is_owed() {
    let [from, to] = [Database::new().await, Database::new().await];
    let broker = LocalBroker::new();
    let _known = service(&to, &broker, "audit");
    publisher(&from, &broker).stop().await.unwrap();
    let broker = LocalBroker::new();
    let publishing = publisher(&from, &broker);
    publish_numbers(&from, 0..5).await;
    owed(&from, 5).await;
    let subscriber = Running::start(service(&to, &broker, "audit"));
    assert_eq!(effects(&to, 5).await, texts(0..5));
    publishing.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_that_subscribes_to_nothing_takes_nothing_away_from_another() {
    let [from, to] = [Database::new().await, Database::new().await];
    let subscriber = Running::start(service(&to, &LocalBroker::new().reaching(store(&from)), "audit"));
    let publishing = publisher(&from, &LocalBroker::new().reaching(store(&to)));
    eventually("recorded", || recorded(&from), |found| found.len() == 1).await;
    // The same service once more, as a process that only publishes, and the publisher's as another.
    let publish_only = publisher(&to, &LocalBroker::new().reaching(store(&from)));
    let second = publisher(&from, &LocalBroker::new().reaching(store(&to)));
    publish(&to.pool, &Noted::of("s", "first")).await;
    all_sent(&to).await;
    effects(&to, 1).await;
    publish_numbers(&from, 0..5).await;
    assert_eq!(effects(&to, 6).await[1..], texts(0..5));
    for bus in [subscriber, publishing, publish_only, second] {
        bus.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_store_no_longer_subscribes_to_is_delivered_until_it_is_forgotten() {
    let [from, to] = [Database::new().await, Database::new().await];
    let first = LocalBroker::new().reaching(store(&from));
    let running = Running::start(service(&to, &first, "old"));
    eventually("recorded", || recorded(&from), |found| found.iter().any(|(_, name, _)| name == "old")).await;
    running.stop().await.unwrap();
    let second = LocalBroker::new().reaching(store(&from));
    let running = Running::start(service(&to, &second, "new"));
    eventually("recorded", || recorded(&from), |found| found.len() == 2).await;
    let publishing = publisher(&from, &LocalBroker::new().reaching(store(&to)));
    publish_numbers(&from, 0..3).await;
    assert_eq!(effects(&to, 3).await, texts(0..3));
    let of_old = "SELECT COUNT(*) FROM inbox WHERE subscription = 'old' AND status = 'pending'";
    eventually("kept for it", || to.number(of_old), |count| *count == 3).await;
    let known = admin::subscriptions(&from.pool).await.unwrap();
    let old = known.iter().find(|known| known.name == "old").unwrap();
    admin::forget_subscription(&from.pool, &old.store, &old.name).await.unwrap();
    publish_numbers(&from, 3..5).await;
    assert_eq!(effects(&to, 5).await, texts(0..5));
    assert_eq!(to.number(of_old).await, 3);
    publishing.stop().await.unwrap();
    running.stop().await.unwrap();
}

/// Collects what is logged on this thread, which is where all tasks of the test run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("distributed_events")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut Line(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn events_that_nobody_takes_are_sent_with_one_line_in_the_log() {
    let log = Log::default();
    let _collecting = tracing::subscriber::set_default(log.clone());
    let from = Database::new().await;
    let publishing = publisher(&from, &LocalBroker::new());
    publish_numbers(&from, 0..3).await;
    all_sent(&from).await;
    publish_numbers(&from, 3..6).await;
    all_sent(&from).await;
    publishing.stop().await.unwrap();
    let lines = log.0.lock().unwrap().clone();
    let told: Vec<_> =
        lines.iter().filter(|line| line.contains("no subscription takes this event")).collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    assert!(told[0].contains("test.noted") && told[0].contains("events"), "{told:?}");
    owed(&from, 0).await;
}

#[tokio::test]
async fn one_service_may_subscribe_to_its_own_events() {
    let both = Database::new().await;
    let running = Running::start(service(&both, &LocalBroker::new(), "self"));
    publish_numbers(&both, 0..20).await;
    assert_eq!(effects(&both, 20).await, texts(0..20));
    running.stop().await.unwrap();
}
