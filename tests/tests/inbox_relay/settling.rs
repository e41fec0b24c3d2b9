//! Rule 18: only what is committed is settled, over the link it came by; what is not settled comes again.

use std::time::Duration;

use distributed_events::broker::ReceiveError;
use distributed_events::{HandlerSettings, IncidentKind, RetryPolicy, Stats};
use tests::broker_conformance::Noted;
use tests::eventually::eventually;
use tests::service::{Running, quick};

use super::{Inbox, fresh};

#[tokio::test]
async fn a_message_is_committed_before_it_is_completed() {
    let inbox = Inbox::new().await;
    inbox.broker.hold_settles();
    let relay = inbox.start();
    for number in 0..5 {
        inbox.enqueue(fresh(&number.to_string()));
    }
    // Handled, and so committed, while the broker still holds all of them.
    inbox.effects(1).await;
    assert_eq!(inbox.broker.completed(&inbox.source), 0);
    inbox.broker.release_settles();
    inbox.completed(5).await;
    assert_eq!(inbox.effects(5).await.len(), 5);
    relay.stop().await.unwrap();
}

/// A relay that dies between the commit and the settle.
#[tokio::test]
async fn a_message_whose_settle_never_came_is_dropped_as_a_duplicate_when_it_comes_again() {
    let inbox = Inbox::new().await;
    inbox.broker.hold_settles();
    let relay = inbox.start();
    inbox.enqueue(fresh("once"));
    inbox.effects(1).await;
    relay.kill().await;
    tests::broker_conformance::bury(&inbox.database).await;
    inbox.broker.release_settles();
    let relay = inbox.start();
    inbox.completed(1).await;
    eventually("counted", || async { relay.bus.stats().duplicates }, |duplicates| *duplicates == 1).await;
    inbox.enqueue(fresh("next"));
    assert_eq!(inbox.effects(2).await, ["once", "next"]);
    relay.stop().await.unwrap();
    assert_eq!(inbox.database.number("SELECT COUNT(*) FROM inbox").await, 2);
}

#[tokio::test]
async fn a_failed_settle_brings_the_message_again_and_not_its_effects() {
    let inbox = Inbox::new().await;
    inbox.broker.refuse_next_settle();
    inbox.enqueue(fresh("once"));
    let relay = inbox.start();
    inbox.completed(1).await;
    inbox.told(IncidentKind::BrokerUnavailable, 1).await;
    assert_eq!(inbox.broker.received(&inbox.source), 2);
    let duplicates = || async { relay.bus.stats() };
    eventually("counted", duplicates, |stats: &Stats| stats.duplicates == 1 && stats.processed == 1).await;
    relay.stop().await.unwrap();
    assert_eq!(inbox.database.effects().await, ["once"]);
}

#[tokio::test]
async fn a_settle_whose_answer_was_lost_costs_nothing() {
    let inbox = Inbox::new().await;
    inbox.broker.lose_next_settle();
    inbox.enqueue(fresh("0"));
    let relay = inbox.start();
    inbox.completed(1).await;
    inbox.enqueue(fresh("1"));
    inbox.completed(2).await;
    assert_eq!(inbox.effects(2).await, ["0", "1"]);
    assert_eq!(relay.bus.stats().duplicates, 0);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_lock_that_ran_out_before_the_settle_brings_the_message_again() {
    let inbox = Inbox::new().await;
    inbox.broker.hold_settles();
    inbox.enqueue(fresh("once"));
    let relay = inbox.start();
    inbox.effects(1).await;
    inbox.broker.expire_locks();
    inbox.broker.release_settles();
    inbox.completed(1).await;
    eventually("counted", || async { relay.bus.stats().duplicates }, |duplicates| *duplicates == 1).await;
    relay.stop().await.unwrap();
    assert_eq!(inbox.database.effects().await, ["once"]);
}

#[tokio::test]
async fn a_broken_link_is_opened_again() {
    let inbox = Inbox::new().await;
    for _ in 0..3 {
        inbox.broker.refuse_next_receive(ReceiveError::Unavailable("the link is gone".to_owned()));
    }
    let relay = inbox.start();
    inbox.enqueue(fresh("0"));
    inbox.completed(1).await;
    inbox.told(IncidentKind::BrokerUnavailable, 3).await;
    inbox.broker.set_down(true);
    inbox.enqueue(fresh("1"));
    inbox.told(IncidentKind::BrokerUnavailable, 6).await;
    inbox.broker.set_down(false);
    assert_eq!(inbox.effects(2).await, ["0", "1"]);
    relay.stop().await.unwrap();
}

/// Nothing can be handled, and everything is stored.
#[tokio::test]
async fn receiving_does_not_wait_for_handlers() {
    let inbox = Inbox::new().await;
    let never = RetryPolicy::default().attempts(1_000_000).initial(Duration::from_millis(10)).multiplier(1.0);
    let builder = quick(&inbox.database.pool).broker(inbox.broker.clone());
    let bus = builder.on(HandlerSettings::new("audit").retry(never), |_: Noted, _, _| {
        Box::pin(async { Err("not today".into()) })
    });
    let relay = Running::start(bus.build().unwrap());
    for number in 0..300 {
        let mut message = fresh(&number.to_string());
        message.session_id = Some("s".to_owned());
        inbox.enqueue(message);
    }
    inbox.completed(300).await;
    let pending = "SELECT COUNT(*) FROM inbox WHERE status = 'pending'";
    assert_eq!(inbox.database.number(pending).await, 300);
    eventually("it was tried", || async { relay.bus.stats().retried }, |retried| *retried > 1).await;
    relay.stop().await.unwrap();
}
