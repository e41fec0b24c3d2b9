//! Who gets which events, and how often.

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

use super::{Noted, Pair, Place, effects, in_order, noting_with, publish, settings};
use crate::eventually::eventually;
use crate::service::{Database, Running, quick};

#[derive(Serialize, Deserialize)]
struct Invoiced {
    number: i64,
}

impl DistributedEvent for Invoiced {
    const NAME: &'static str = "test.invoiced";
    const TOPIC: Option<&'static str> = Some("invoices");
}

#[derive(Serialize, Deserialize)]
struct OldName {
    number: i64,
}

impl DistributedEvent for OldName {
    const NAME: &'static str = "Old.Name";
}

#[derive(Serialize, Deserialize)]
struct NewName {
    number: i64,
}

impl DistributedEvent for NewName {
    const NAME: &'static str = "test.new-name";
    const ALIASES: &'static [&'static str] = &["Old.Name"];
}

/// One name on another topic than the one it is handled on.
#[derive(Serialize, Deserialize)]
struct NotedElsewhere {
    text: String,
}

impl DistributedEvent for NotedElsewhere {
    const NAME: &'static str = Noted::NAME;
    const TOPIC: Option<&'static str> = Some("elsewhere");
}

pub async fn every_subscription_gets_every_event_it_takes<P: Place>() {
    let pair = Pair::<P>::new().await;
    let other = Database::new().await;
    let builder = noting_with(pair.builder(), settings::<P>("journal"), |event: &Noted, _| {
        format!("journal {}", event.text)
    });
    let builder =
        noting_with(builder, settings::<P>("billing"), |event: &Noted, _| format!("billing {}", event.text));
    let builder = noting_with(builder, settings::<P>("billing"), |event: &NewName, _| {
        format!("billing {}", event.number)
    });
    let first = Running::start(builder.build().unwrap());
    let builder = quick(&other.pool).broker(pair.place.broker());
    let second = Running::start(
        noting_with(builder, settings::<P>("report"), |event: &NewName, _| event.number.to_string())
            .build()
            .unwrap(),
    );
    let publisher = pair.publisher();
    publish(&pair.from.pool, &Noted::new("a")).await;
    publish(&pair.from.pool, &NewName { number: 1 }).await;
    let mut here = pair.effects(3).await;
    let there = effects(&other, 1).await;
    for running in [publisher, first, second] {
        running.stop().await.unwrap();
    }
    here.sort();
    assert_eq!(here, ["billing 1", "billing a", "journal a"]);
    assert_eq!(there, ["1"]);
    let rows = "SELECT COUNT(*) FROM inbox";
    assert_eq!((pair.to.number(rows).await, other.number(rows).await), (3, 1), "no row that nobody takes");
}

pub async fn an_alias_is_received_under_its_old_name<P: Place>() {
    let pair = Pair::<P>::new().await;
    let text = |event: &NewName, context: &distributed_events::EventContext| {
        format!("{} {}", context.name(), event.number)
    };
    let subscriber =
        Running::start(noting_with(pair.builder(), settings::<P>("audit"), text).build().unwrap());
    let publisher = pair.publisher();
    publish(&pair.from.pool, &OldName { number: 1 }).await;
    publish(&pair.from.pool, &NewName { number: 2 }).await;
    let mut effects = pair.effects(2).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    effects.sort();
    assert_eq!(effects, ["Old.Name 1", "test.new-name 2"]);
}

pub async fn topics_are_apart_and_the_default_topic_is_one<P: Place>() {
    let pair = Pair::<P>::new().await;
    let builder = noting_with(pair.builder(), settings::<P>("audit"), |event: &Noted, _| event.text.clone());
    let builder =
        noting_with(builder, settings::<P>("audit"), |event: &Invoiced, _| event.number.to_string());
    let subscriber = Running::start(builder.build().unwrap());
    let publisher = pair.publisher();
    // The same name on a topic where nobody takes it.
    publish(&pair.from.pool, &NotedElsewhere { text: "elsewhere".to_owned() }).await;
    publish(&pair.from.pool, &Noted::new("default")).await;
    publish(&pair.from.pool, &Invoiced { number: 7 }).await;
    let mut effects = pair.effects(2).await;
    pair.all_sent().await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    effects.sort();
    assert_eq!(effects, ["7", "default"]);
    let topics: Vec<String> =
        sqlx::query_scalar("SELECT topic FROM inbox ORDER BY topic").fetch_all(&pair.to.pool).await.unwrap();
    assert_eq!(topics, ["events", "invoices"]);
}

pub async fn nothing_of_a_rolled_back_transaction_is_delivered<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    for number in 0..20 {
        let mut tx = pair.from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Noted::of("s", number).publish(&mut tx).await.unwrap();
        if number % 2 == 0 { tx.rollback().await.unwrap() } else { publisher.bus.commit(tx).await.unwrap() }
    }
    let effects = pair.effects(10).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    let seen = in_order::<P, usize>(effects.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(seen, (0..20).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    assert_eq!(pair.to.number("SELECT COUNT(*) FROM inbox").await, 10);
}

/// The outbox row is pending again after it was sent, as when its mark was lost.
pub async fn a_copy_sent_again_is_dropped<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    publish(&pair.from.pool, &Noted::of("s", "once")).await;
    pair.effects(1).await;
    let sent = "SELECT COUNT(*) FROM outbox WHERE status = 'sent'";
    eventually("marked", || pair.from.number(sent), |sent| *sent == 1).await;
    sqlx::query("UPDATE outbox SET status = 'pending'").execute(&pair.from.pool).await.unwrap();
    eventually("sent again", || async { publisher.bus.stats().sent }, |sent| *sent == 2).await;
    // In the same session, so it comes after the copy.
    publish(&pair.from.pool, &Noted::of("s", "next")).await;
    let effects = pair.effects(2).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(effects, ["once", "next"]);
    assert_eq!(pair.to.effects().await.len(), 2);
    assert_eq!(pair.to.number("SELECT COUNT(*) FROM inbox").await, 2);
}
