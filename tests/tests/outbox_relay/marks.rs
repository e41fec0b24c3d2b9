//! Rule 25: `sent` is marked only on the broker's word, by id, and only where the row is still pending.

use std::time::{Duration, Instant};

use distributed_events::IncidentKind;
use tests::eventually::eventually;
use tests::service::{Running, connect, quick_outbox};

use super::{Outbox, event, numbered};

#[tokio::test]
async fn nothing_is_marked_before_the_broker_has_taken_it() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.start_with(1, 2);
    outbox.publish(numbered(2)).await;
    outbox.under_way(2).await;
    outbox.broker.let_sends_pass(1);
    outbox.sent(1).await;
    let accepted = outbox.broker.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(outbox.row(&accepted[0]).await.unwrap().0, "sent");
    assert_eq!(outbox.broker.under_way(), 1);
    outbox.broker.release_sends();
    outbox.sent(2).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_row_that_someone_changed_meanwhile_is_left_alone() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.start();
    outbox.publish(vec![event("1")]).await;
    outbox.under_way(1).await;
    outbox.run("UPDATE outbox SET status = 'dead', last_error = 'by hand'").await;
    outbox.broker.release_sends();
    outbox.publish(vec![event("2")]).await;
    outbox.sent(1).await;
    eventually("both are accepted", || async { relay.bus.stats().sent }, |sent| *sent == 2).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.row("1").await.unwrap(), ("dead".to_owned(), Some("by hand".to_owned())));
}

#[tokio::test]
async fn what_was_accepted_while_the_database_was_locked_is_marked_later_and_not_sent_again() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.builder().busy_timeout(Duration::from_millis(300)).build().unwrap();
    let relay = Running::start(relay);
    outbox.publish(numbered(3)).await;
    outbox.under_way(1).await;
    let other = connect(&outbox.database.path(), 1).await;
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    outbox.broker.release_sends();
    outbox.told(IncidentKind::DatabaseTrouble, 3).await;
    lock.rollback().await.unwrap();
    let since = Instant::now();
    outbox.sent(3).await;
    outbox.publish(vec![event("next")]).await;
    outbox.sent(4).await;
    // The relay's own lease must not stand in its way for its 30 seconds.
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), ["0", "1", "2", "next"], "each once");
}

#[tokio::test]
async fn a_graceful_stop_marks_what_is_still_accepted() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.start_with(1, 3);
    outbox.publish(numbered(5)).await;
    outbox.under_way(3).await;
    let release = async {
        tokio::task::yield_now().await;
        outbox.broker.release_sends();
    };
    let (stopped, ()) = tokio::join!(relay.stop(), release);
    stopped.unwrap();
    let sent = outbox.database.number("SELECT COUNT(*) FROM outbox WHERE status = 'sent'").await;
    assert_eq!(sent, outbox.broker.accepted().len() as i64);
    assert!(sent >= 3, "{sent}");
    let held = "SELECT COUNT(*) FROM distributed_events_leases WHERE owner IS NOT NULL";
    assert_eq!(outbox.database.number(held).await, 0);
}

/// A broker that never answers must not keep the service from stopping; what it may have taken is sent again.
#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_deadline_for_the_broker() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let bus = outbox.builder().shutdown_deadline(Duration::from_millis(200)).build().unwrap();
    let relay = Running::start(bus);
    outbox.publish(vec![event("1")]).await;
    outbox.under_way(1).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.row("1").await.unwrap().0, "pending");
    assert_eq!(outbox.broker.under_way(), 0);
    outbox.broker.release_sends();
    tests::broker_conformance::bury(&outbox.database).await;
    let relay = outbox.start();
    outbox.sent(1).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn sent_rows_are_deleted_at_once_where_the_settings_say_so() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_event("bad", "no");
    outbox.publish(vec![event("1"), event("bad"), event("2")]).await;
    let relay = outbox.start_as(quick_outbox().delete_sent());
    let rows = "SELECT COUNT(*) FROM outbox";
    eventually("only the dead row is left", || outbox.database.number(rows), |rows| *rows == 1).await;
    eventually("dead", || outbox.row("bad"), |row| row.as_ref().unwrap().0 == "dead").await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), ["1", "2"]);
}

#[tokio::test]
async fn sent_rows_are_kept_for_as_long_as_the_settings_say() {
    let outbox = Outbox::new().await;
    outbox.publish(numbered(2)).await;
    let relay = outbox.start_as(quick_outbox().keep_sent(Duration::from_secs(3600)));
    outbox.sent(2).await;
    outbox.run("UPDATE outbox SET processed_at = processed_at - 3700000 WHERE event_data = '0'").await;
    outbox.sent(1).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.row("0").await, None);
}
