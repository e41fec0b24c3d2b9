//! Sessions: many, shared by instances, and plain subscriptions beside them.

use serde_json::json;
use tests::broker_conformance::{Noted, publish};
use tests::service::Running;

use crate::{Street, entities};

#[tokio::test]
async fn two_instances_share_many_sessions_in_order() {
    let street = Street::new().await;
    let publisher = street.publisher(street.broker());
    let subscribers = [street.subscriber(street.broker()), street.subscriber(street.broker())];
    for n in 0..10 {
        for session in 0..100 {
            let text = format!("{session}:{n}");
            publish(&street.from.pool, &Noted::of(&format!("session {session}"), text)).await;
        }
    }
    street.effects(1000).await;
    publisher.stop().await.unwrap();
    for subscriber in subscribers {
        subscriber.stop().await.unwrap();
    }
    let found = street.to.effects().await;
    assert_eq!(found.len(), 1000);
    for session in 0..100 {
        let of_it: Vec<_> =
            found.iter().filter_map(|text| text.strip_prefix(&format!("{session}:"))).collect();
        assert_eq!(of_it, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "session {session}");
    }
}

/// One topic, a subscription with sessions and one without: both get everything (rule 20).
#[tokio::test]
async fn subscriptions_with_and_without_sessions_stand_on_one_topic() {
    let mut both = entities(true);
    let subscription = |sessions: bool, name: &str| json!({ "Name": name, "Properties": { "RequiresSession": sessions, "LockDuration": "PT5S" } });
    both["Topics"][0]["Subscriptions"] = json!([subscription(true, "audit"), subscription(false, "report")]);
    let street = Street::with(&both).await;
    let publisher = street.publisher(street.broker());
    let subscriber = street.subscriber(street.broker());
    let other = tests::service::Database::new().await;
    let builder = tests::service::quick(&other.pool).broker(street.broker());
    let settings = distributed_events::HandlerSettings::new("report").unordered();
    let builder = builder.on(settings, |event: Noted, tx, _| {
        Box::pin(async move { tests::broker_conformance::note(tx, &event.text).await })
    });
    let reporter = Running::start(builder.build().unwrap());
    for number in 0..20 {
        let event = if number % 2 == 0 { Noted::of("s", number) } else { Noted::new(number) };
        publish(&street.from.pool, &event).await;
    }
    street.effects(20).await;
    tests::broker_conformance::effects(&other, 20).await;
    for running in [publisher, subscriber, reporter] {
        running.stop().await.unwrap();
    }
}
