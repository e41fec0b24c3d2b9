//! One of the two is down, and then it is not.

use super::{Noted, Pair, Place, bury, in_order, publish};
use crate::eventually::eventually;

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// By number where the broker keeps no order.
fn sorted<P: Place>(effects: Vec<String>) -> Vec<String> {
    let seen: Vec<usize> = effects.iter().map(|text| text.parse().unwrap()).collect();
    in_order::<P, _>(seen).iter().map(ToString::to_string).collect()
}

pub async fn a_subscriber_that_was_down_gets_everything_in_order<P: Place>() {
    let pair = Pair::<P>::new().await;
    pair.subscriber().stop().await.unwrap();
    let publisher = pair.publisher();
    for number in numbers(20) {
        publish(&pair.from.pool, &Noted::of("s", number)).await;
    }
    pair.all_sent().await;
    assert!(pair.to.effects().await.is_empty());
    let subscriber = pair.subscriber();
    publish(&pair.from.pool, &Noted::of("s", 20)).await;
    let effects = pair.effects(21).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(sorted::<P>(effects), numbers(21));
}

pub async fn a_publisher_that_was_down_sends_everything_once<P: Place>() {
    let pair = Pair::<P>::new().await;
    let subscriber = pair.subscriber();
    for number in numbers(20) {
        publish(&pair.from.pool, &Noted::of("s", number)).await;
    }
    // It dies in the middle of sending, more than once.
    for seen in [1, 3] {
        let publisher = pair.publisher();
        pair.effects(seen).await;
        publisher.kill().await;
        bury(&pair.from).await;
    }
    let publisher = pair.publisher();
    pair.effects(20).await;
    pair.all_sent().await;
    publish(&pair.from.pool, &Noted::of("s", 20)).await;
    let effects = pair.effects(21).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(sorted::<P>(effects), numbers(21));
}

pub async fn a_killed_subscriber_misses_nothing<P: Place>() {
    let pair = Pair::<P>::new().await;
    let publisher = pair.publisher();
    let mut subscriber = pair.subscriber();
    for round in 0..4 {
        for number in 0..10 {
            publish(&pair.from.pool, &Noted::of("s", round * 10 + number)).await;
        }
        pair.effects(round * 10 + 5).await;
        subscriber.kill().await;
        bury(&pair.to).await;
        subscriber = pair.subscriber();
    }
    pair.effects(40).await;
    let processed = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
    eventually("all rows are marked", || pair.to.number(processed), |count| *count == 40).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(sorted::<P>(pair.to.effects().await), numbers(40));
}
