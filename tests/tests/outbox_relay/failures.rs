//! Rule 24: what the event, the topic or the broker is to blame for.

use std::time::{Duration, Instant};

use distributed_events::IncidentKind;
use distributed_events::broker::SendError;
use tests::eventually::eventually;
use tests::service::quick_outbox;

use super::{Outbox, event, numbered, of, on};

fn unavailable(retry_after: Option<Duration>) -> SendError {
    SendError::Unavailable { reason: "busy".to_owned(), retry_after }
}

#[tokio::test]
async fn an_event_that_cant_be_sent_ends_dead_with_its_reason_and_blocks_nobody() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_event("s2", "a header name it can't carry");
    outbox.publish(vec![of("s", "s1"), of("s", "s2"), event("free"), of("s", "s3")]).await;
    let relay = outbox.start();
    outbox.sent(3).await;
    outbox.told(IncidentKind::EventDead, 1).await;
    assert_eq!(relay.bus.stats().dead, 1);
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), ["s1", "free", "s3"]);
    let row = outbox.row("s2").await.unwrap();
    assert_eq!(row, ("dead".to_owned(), Some("a header name it can't carry".to_owned())));
}

#[tokio::test]
async fn an_event_too_big_for_the_broker_ends_dead_alone() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_bodies_above(20);
    let big = "b".repeat(21);
    outbox.publish(vec![of("s", "1"), of("s", &big), of("s", "3"), event("4")]).await;
    let relay = outbox.start();
    outbox.sent(3).await;
    eventually("dead", || outbox.row(&big), |row| row.as_ref().is_some_and(|row| row.0 == "dead")).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), ["1", "3", "4"]);
    let reason = outbox.row(&big).await.unwrap().1.unwrap();
    assert!(reason.contains("21 bytes"), "{reason}");
}

#[tokio::test]
async fn a_topic_that_takes_nothing_is_held_alone_with_its_sessions() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_topic("a", "it is full");
    let relay = outbox.start();
    outbox
        .publish(vec![
            on("a", event("a1")),
            on("b", event("b1")),
            on("a", of("s", "s1")),
            on("b", of("s", "s2")),
        ])
        .await;
    outbox.told(IncidentKind::TopicHeld, 3).await;
    outbox.publish(vec![on("b", event("b2")), on("b", of("s", "s3"))]).await;
    let accepted = || async { outbox.broker.accepted() };
    eventually("topic b flows", accepted, |accepted| accepted.contains(&"b2".to_owned())).await;
    let flowed = outbox.broker.accepted();
    assert_eq!(flowed, ["b1", "b2"], "s2 and s3 wait for s1, which waits for topic a");
    let attempts = "SELECT COALESCE(SUM(attempts), 0) FROM outbox";
    assert_eq!(outbox.database.number(attempts).await, 0, "no attempt is counted");
    outbox.broker.mend_topic("a");
    outbox.sent(6).await;
    relay.stop().await.unwrap();
    let accepted = outbox.broker.accepted();
    let of_session: Vec<_> = accepted.iter().filter(|body| body.starts_with('s')).collect();
    assert_eq!(of_session, ["s1", "s2", "s3"]);
}

#[tokio::test]
async fn a_held_topic_is_asked_less_and_less_often_though_others_flow() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_topic("a", "there is none");
    let settings = quick_outbox().backoff(Duration::from_millis(50), Duration::from_secs(60));
    let relay = outbox.start_as(settings);
    outbox.publish(vec![on("a", event("a"))]).await;
    let asked = || -> Vec<Instant> {
        outbox.broker.batches().iter().filter(|batch| batch.topic == "a").map(|batch| batch.at).collect()
    };
    let look = || async {
        outbox.publish(vec![on("b", event("b"))]).await;
        asked()
    };
    let asked = eventually("asked five times", look, |asked| asked.len() >= 5).await;
    // 50 + 100 + 200 + 400 ms, less a fifth of jitter; without growth it is 200.
    assert!(asked[4] - asked[0] >= Duration::from_millis(600), "{:?}", asked[4] - asked[0]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_down_is_tried_again_with_one_batch() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    outbox.publish(numbered(20)).await;
    let relay = outbox.start_with(1, 4);
    outbox.under_way(4).await;
    outbox.broker.set_down(true);
    outbox.broker.release_sends();
    outbox.batches(8).await;
    outbox.broker.hold_sends();
    outbox.under_way(1).await;
    outbox.broker.set_down(false);
    outbox.broker.let_sends_pass(1);
    // Side by side again.
    outbox.under_way(4).await;
    outbox.broker.release_sends();
    outbox.sent(20).await;
    relay.stop().await.unwrap();
    let batches = outbox.broker.batches();
    assert_eq!(
        batches.iter().take(4).map(|batch| batch.depth).max(),
        Some(4),
        "side by side before it failed"
    );
    let up = batches.iter().position(|batch| batch.accepted).unwrap();
    assert!(batches[4..=up].iter().all(|batch| batch.depth == 1), "one at a time while it is on trial");
    let attempts = "SELECT SUM(attempts) FROM outbox";
    assert_eq!(outbox.database.number(attempts).await, 0);
}

#[tokio::test]
async fn failures_side_by_side_are_backed_off_as_one() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    outbox.publish(numbered(12)).await;
    let settings = quick_outbox()
        .batch_size(1)
        .in_flight(8)
        .backoff(Duration::from_millis(100), Duration::from_secs(600));
    let relay = outbox.start_as(settings);
    outbox.under_way(8).await;
    outbox.broker.set_down(true);
    outbox.broker.release_sends();
    outbox.batches(9).await;
    outbox.broker.set_down(false);
    // Eight doublings would be a wait of half a minute and more.
    let since = Instant::now();
    outbox.sent(12).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn the_broker_is_left_alone_for_as_long_as_it_asks() {
    let outbox = Outbox::new().await;
    let asked = Duration::from_millis(800);
    outbox.broker.hold_sends();
    outbox.publish(numbered(3)).await;
    let relay = outbox.start_with(1, 2);
    outbox.under_way(2).await;
    // One is refused; the other, sent at the same time, is taken, and must not cut the wait short.
    outbox.broker.refuse_next_send(unavailable(Some(asked)));
    let refused = Instant::now();
    outbox.broker.release_sends();
    outbox.sent(3).await;
    relay.stop().await.unwrap();
    let batches = outbox.broker.batches();
    assert!(batches[0].accepted != batches[1].accepted);
    let waited = batches[2].at - refused;
    assert!(waited >= asked, "{waited:?}");
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_sent_again_with_the_same_id() {
    let outbox = Outbox::new().await;
    outbox.broker.lose_next_answer();
    outbox.publish(vec![of("s", "1"), of("s", "2")]).await;
    let relay = outbox.start();
    outbox.sent(2).await;
    assert_eq!(relay.bus.stats().sent, 2, "accepted as far as anyone can know");
    relay.stop().await.unwrap();
    let batches = outbox.broker.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].ids, batches[1].ids);
    assert_eq!(outbox.broker.accepted(), ["1", "2", "1", "2"]);
}
