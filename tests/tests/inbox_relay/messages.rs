//! Messages as others make them, and those that the broker gave up on.

use distributed_events::IncidentKind;
use tests::eventually::eventually;

use super::{Inbox, fresh, message};

/// One message becomes one row: dead, for this reason, with its bytes.
async fn ends_dead(inbox: &Inbox, reason: &str) {
    let relay = inbox.start();
    inbox.completed(1).await;
    inbox.told(IncidentKind::EventDead, 1).await;
    eventually("counted", || async { relay.bus.stats().dead }, |dead| *dead == 1).await;
    // The next one goes on.
    inbox.enqueue(fresh("next"));
    assert_eq!(inbox.effects(1).await, ["next"]);
    relay.stop().await.unwrap();
    inbox.run("DELETE FROM inbox WHERE status <> 'dead'").await;
    let (status, why) = inbox.row().await;
    assert_eq!(status, "dead");
    assert!(why.as_ref().is_some_and(|why| why.contains(reason)), "{why:?}");
    let bytes = "SELECT coalesce(length(CAST(event_data AS BLOB)), length(raw)) FROM inbox";
    assert!(inbox.database.number(bytes).await > 0, "its bytes are kept");
}

#[tokio::test]
async fn a_message_without_a_subject_is_kept_dead() {
    let inbox = Inbox::new().await;
    let mut nameless = fresh("nameless");
    nameless.subject = None;
    inbox.enqueue(nameless);
    ends_dead(&inbox, "names no event").await;
}

#[tokio::test]
async fn a_version_that_is_no_number_is_kept_dead() {
    let inbox = Inbox::new().await;
    let mut strange = fresh("strange");
    strange.properties.insert("eventversion".to_owned(), "-1".to_owned());
    inbox.enqueue(strange);
    ends_dead(&inbox, "the event version `-1` is not a number").await;
}

#[tokio::test]
async fn a_body_that_is_not_text_is_kept_with_its_bytes_and_ends_dead() {
    let inbox = Inbox::new().await;
    let mut binary = fresh("");
    binary.body = vec![0xff, 0, 0xfe];
    inbox.enqueue(binary);
    ends_dead(&inbox, "can't be decoded").await;
    let raw: Vec<u8> =
        sqlx::query_scalar("SELECT raw FROM inbox").fetch_one(&inbox.database.pool).await.unwrap();
    assert_eq!(raw, [0xff, 0, 0xfe]);
}

#[tokio::test]
async fn an_empty_session_of_the_broker_is_read_back_as_none_and_others_as_they_are() {
    let inbox = Inbox::new().await;
    for session in ["~00", "~31", "~32", "~", "s"] {
        let mut message = message(session, session);
        message.session_id = Some(session.to_owned());
        inbox.enqueue(message);
    }
    let relay = inbox.start();
    inbox.effects(5).await;
    relay.stop().await.unwrap();
    let sessions: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT message_id, session_id FROM inbox ORDER BY seq")
            .fetch_all(&inbox.database.pool)
            .await
            .unwrap();
    let sessions: Vec<_> = sessions.iter().map(|(id, session)| (id.as_str(), session.as_deref())).collect();
    assert_eq!(
        sessions,
        [("~00", None), ("~31", None), ("~32", Some("~32")), ("~", Some("~")), ("s", Some("s"))]
    );
}

#[tokio::test]
async fn the_dead_letter_queue_is_drained() {
    let inbox = Inbox::new().await;
    let relay = inbox.start();
    let known = fresh("known");
    inbox.enqueue(known.clone());
    inbox.completed(1).await;
    let dead_letters = inbox.source.clone().dead_letters();
    for (mut message, reason) in [
        (known, Some("MaxDeliveryCountExceeded")),
        (fresh("unknown"), Some("MaxDeliveryCountExceeded")),
        (fresh("by hand"), None),
    ] {
        message.dead_letter_reason = reason.map(str::to_owned);
        inbox.broker.enqueue(&dead_letters, message);
    }
    let completed = || async { inbox.broker.completed(&dead_letters) };
    eventually("the queue is empty", completed, |completed| *completed == 3).await;
    inbox.told(IncidentKind::EventDead, 2).await;
    relay.stop().await.unwrap();
    assert_eq!(inbox.database.effects().await, ["known"], "none of the others is handled");
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT json_extract(event_data, '$.text'), last_error FROM inbox WHERE status = 'dead' ORDER BY seq",
    )
    .fetch_all(&inbox.database.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0].0, "unknown");
    assert!(rows[0].1.contains("MaxDeliveryCountExceeded"), "{rows:?}");
    assert!(rows[1].1.contains("no reason given"), "{rows:?}");
}

#[tokio::test]
async fn a_message_given_back_too_often_comes_by_the_dead_letter_queue() {
    let inbox = Inbox::new().await;
    inbox.enqueue(fresh("unlucky"));
    for _ in 0..10 {
        inbox.broker.refuse_next_settle();
    }
    // Stored at the first delivery: what the broker gives up on is known.
    let relay = inbox.start();
    let dead_letters = inbox.source.clone().dead_letters();
    let gone = || async { inbox.broker.waiting(&inbox.source).0 + inbox.broker.waiting(&dead_letters).0 };
    eventually("it has left the broker", gone, |left| *left == 0).await;
    assert_eq!(inbox.effects(1).await, ["unlucky"]);
    relay.stop().await.unwrap();
    assert_eq!(inbox.row().await.0, "processed");
}
