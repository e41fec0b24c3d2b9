//! Creating what is missing.

use std::sync::Arc;

use distributed_events::topology::{Takes, TopologyReport};
use tests::broker_conformance::{Noted, noting, publish};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

use crate::door::rules_of;
use crate::{Ignored, billing, broker, empty, events, shown};

#[tokio::test]
async fn what_is_missing_is_created_once_and_then_is_as_it_should_be() {
    let emulator = empty();
    let broker = broker(&emulator);
    let missing = broker.check_topology(&billing()).await.unwrap();
    assert_eq!(shown(&missing.missing), ["topic orders", "subscription billing on topic orders"]);
    assert!(!missing.is_as_wanted() && missing.created.is_empty(), "{missing}");

    let created = broker.ensure_topology(&billing()).await.unwrap();
    assert_eq!(
        shown(&created.created),
        [
            "topic orders",
            "subscription billing on topic orders",
            "rule placed of subscription billing on topic orders"
        ]
    );
    assert!(created.is_as_wanted(), "{created}");
    // The first rule came with the subscription, and none that lets everything through was ever there.
    assert_eq!(rules_of(&emulator, "orders", "billing").await, ["paid", "placed"]);
    for again in [broker.ensure_topology(&billing()).await, broker.check_topology(&billing()).await] {
        assert_eq!(again.unwrap(), TopologyReport::default());
    }
}

#[tokio::test]
async fn events_of_later_versions_get_their_rules() {
    let emulator = empty();
    let broker = broker(&emulator);
    broker.ensure_topology(&billing()).await.unwrap();
    let mut newer = billing();
    newer.subscribe("orders", "billing", events(&["refunded", "Bestellung storniert", "Placed"]), true);
    let missing = broker.check_topology(&newer).await.unwrap();
    assert_eq!(missing.missing.len(), 3, "{missing}");
    let created = broker.ensure_topology(&newer).await.unwrap();
    assert_eq!(created.created, missing.missing);
    assert_eq!(broker.check_topology(&newer).await.unwrap(), TopologyReport::default());
    // The older version, which may be deployed at the same time, takes nothing away.
    let older = broker.ensure_topology(&billing()).await.unwrap();
    assert!(older.is_as_wanted() && older.foreign.len() == 3, "{older}");
    assert_eq!(rules_of(&emulator, "orders", "billing").await.len(), 5);
}

#[tokio::test]
async fn more_rules_than_one_page_lists() {
    let emulator = empty();
    let broker = broker(&emulator);
    let mut topology = billing();
    let names: Vec<_> = (0..230).map(|number| format!("event-{number:03}")).collect();
    topology.subscribe("orders", "audit", Takes::Events(names), false);
    let created = broker.ensure_topology(&topology).await.unwrap();
    // Audit and its first rule are one.
    assert_eq!(created.created.len(), 1 + 230 + 2, "{created}");
    assert_eq!(broker.ensure_topology(&topology).await.unwrap(), TopologyReport::default());
}

#[tokio::test]
async fn eight_instances_may_do_it_at_once() {
    let emulator = Arc::new(empty());
    let mut topology = billing();
    for topic in ["a", "b", "shop/c"] {
        topology.subscribe(topic, "audit", events(&["one", "two", "three"]), false);
        topology.subscribe(topic, "all", Takes::Everything, false);
    }
    let instances = (0..8).map(|_| {
        let (emulator, topology) = (Arc::clone(&emulator), topology.clone());
        tokio::spawn(async move { broker(&emulator).ensure_topology(&topology).await.unwrap() })
    });
    let mut created = Vec::new();
    for report in futures_util::future::join_all(instances).await {
        let report = report.unwrap();
        assert!(report.is_as_wanted(), "{report}");
        created.extend(report.created);
    }
    created.sort();
    let all = created.len();
    created.dedup();
    assert_eq!(created.len(), all, "nothing was created twice");
    // 4 topics, 7 subscriptions with their first rules, 1 + 3 * 2 further rules.
    assert_eq!(all, 18);
    assert_eq!(broker(&emulator).check_topology(&topology).await.unwrap(), TopologyReport::default());
}

/// What a bus told is what its events need, and nothing else slips in.
#[tokio::test]
async fn events_travel_through_what_was_created() {
    let emulator = empty();
    let (from, to) = (Database::new().await, Database::new().await);
    let publisher = quick(&from.pool).broker(broker(&emulator)).publishes::<Ignored>().build().unwrap();
    let subscriber = noting(quick(&to.pool), "audit", |event: &Noted, _| event.text.clone());
    let subscriber = subscriber.broker(broker(&emulator)).build().unwrap();
    for topology in publisher.topology().iter().chain(&subscriber.topology()) {
        assert!(broker(&emulator).ensure_topology(topology).await.unwrap().is_as_wanted());
    }
    let (publisher, subscriber) = (Running::start(publisher), Running::start(subscriber));
    for number in 0..20 {
        publish(&from.pool, &Ignored).await;
        publish(&from.pool, &Noted::of("s", number)).await;
    }
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    eventually("all are handled in order", || to.effects(), |effects| *effects == expected).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(to.number("SELECT count(*) FROM inbox").await, 20, "what nobody handles did not come");
}

#[tokio::test]
async fn one_that_takes_everything_gets_everything() {
    let emulator = empty();
    let (from, to) = (Database::new().await, Database::new().await);
    let publisher = quick(&from.pool).broker(broker(&emulator)).build().unwrap();
    let subscriber = noting(quick(&to.pool), "audit", |event: &Noted, _| event.text.clone());
    let subscriber = subscriber.ignore_unknown_events("audit").broker(broker(&emulator)).build().unwrap();
    for topology in subscriber.topology() {
        broker(&emulator).ensure_topology(&topology).await.unwrap();
    }
    assert_eq!(rules_of(&emulator, "events", "audit").await, ["$Default"]);
    let (publisher, subscriber) = (Running::start(publisher), Running::start(subscriber));
    publish(&from.pool, &Ignored).await;
    publish(&from.pool, &Noted::new("1")).await;
    let count = "SELECT count(*) FROM inbox WHERE status <> 'pending'";
    eventually("both came", || to.number(count), |count| *count == 2).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(to.effects().await, ["1"]);
}
