//! Rule 14: which messages are the same event.

use std::time::{Duration, SystemTime};

use distributed_events::IncidentKind;
use tests::eventually::eventually;

use super::{Inbox, fresh, message};

const HYPHENS: &str = "0192f1c0-a3b4-7c5d-8e9f-001122334455";
const PLAIN: &str = "0192F1C0A3B47C5D8E9F001122334455";

async fn duplicates(relay: &tests::service::Running, count: u64) {
    let what = format!("{count} duplicates");
    eventually(&what, || async { relay.bus.stats().duplicates }, |duplicates| *duplicates == count).await;
}

#[tokio::test]
async fn both_text_forms_of_a_uuid_are_one_event() {
    let inbox = Inbox::new().await;
    let relay = inbox.start();
    inbox.enqueue(message(HYPHENS, "once"));
    inbox.completed(1).await;
    inbox.enqueue(message(PLAIN, "once"));
    inbox.completed(2).await;
    duplicates(&relay, 1).await;
    assert_eq!(inbox.effects(1).await, ["once"]);
    relay.stop().await.unwrap();
    let ids: Vec<String> = sqlx::query_scalar("SELECT lower(hex(id)) || ' ' || message_id FROM inbox")
        .fetch_all(&inbox.database.pool)
        .await
        .unwrap();
    assert_eq!(ids, [format!("{} {HYPHENS}", PLAIN.to_lowercase())]);
}

#[tokio::test]
async fn ids_that_are_no_uuids_are_told_apart_by_their_exact_text() {
    let inbox = Inbox::new().await;
    let relay = inbox.start();
    for id in ["42", "042", "42 ", "order-42", "order-42", "42"] {
        inbox.enqueue(message(id, id));
    }
    inbox.completed(6).await;
    duplicates(&relay, 2).await;
    let mut effects = inbox.effects(4).await;
    relay.stop().await.unwrap();
    effects.sort();
    assert_eq!(effects, ["042", "42", "42 ", "order-42"]);
}

#[tokio::test]
async fn messages_without_an_id_are_known_again_by_their_place_in_the_queue() {
    let inbox = Inbox::new().await;
    inbox.broker.refuse_next_settle();
    for (number, id) in [None, None, Some(String::new()), Some(String::new())].into_iter().enumerate() {
        let mut message = fresh(&number.to_string());
        message.message_id = id;
        message.enqueued_at = Some(SystemTime::now() - Duration::from_secs(60));
        inbox.enqueue(message);
    }
    let relay = inbox.start();
    inbox.completed(4).await;
    let mut effects = inbox.effects(4).await;
    relay.stop().await.unwrap();
    effects.sort();
    assert_eq!(effects, ["0", "1", "2", "3"], "four events, though the first settle failed");
    assert_eq!(inbox.database.number("SELECT COUNT(*) FROM inbox").await, 4);
}

#[tokio::test]
async fn one_id_under_two_names_is_kept_dead_and_counted() {
    let inbox = Inbox::new().await;
    let relay = inbox.start();
    inbox.enqueue(message(HYPHENS, "first"));
    inbox.completed(1).await;
    for _ in 0..2 {
        let mut other = message(HYPHENS, "second");
        other.subject = Some("test.other".to_owned());
        inbox.enqueue(other);
    }
    inbox.completed(3).await;
    inbox.told(IncidentKind::EventDead, 1).await;
    assert_eq!(relay.bus.stats().dead, 1, "its copy is a duplicate");
    assert_eq!(inbox.effects(1).await, ["first"]);
    relay.stop().await.unwrap();
    let dead: Vec<(String, String)> =
        sqlx::query_as("SELECT event_type, last_error FROM inbox WHERE status = 'dead'")
            .fetch_all(&inbox.database.pool)
            .await
            .unwrap();
    assert_eq!(dead, [("test.other".to_owned(), "id already used by event test.noted".to_owned())]);
}
