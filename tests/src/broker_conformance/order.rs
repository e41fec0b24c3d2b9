//! What keeps its order, what goes side by side, and what comes later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use distributed_events::{DistributedEvent, PublishOptions};

use super::{Noted, Pair, Place, in_order, note, noting_with, publish, publish_with, settings};
use crate::eventually::eventually;
use crate::service::Running;

pub async fn a_session_is_handled_in_order<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    // Some transactions hold several events, and the sessions are mixed.
    for number in 0..60 {
        let events = [0, 1, 2].map(|part| Noted::of(&format!("s{part}"), format!("{part} {number}")));
        let mut tx = pair.from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Noted::publish_all(&mut tx, &events[..1 + number % 3]).await.unwrap();
        publisher.bus.commit(tx).await.unwrap();
    }
    let effects = pair.effects(120).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    for part in 0..3 {
        let prefix = format!("{part} ");
        let seen: Vec<usize> = effects
            .iter()
            .filter_map(|text| text.strip_prefix(&prefix))
            .map(|text| text.parse().unwrap())
            .collect();
        let seen = in_order::<P, _>(seen);
        let expected: Vec<_> = (0..60).filter(|number| number % 3 >= part).collect();
        assert_eq!(seen, expected, "session s{part}");
    }
}

pub async fn a_waiting_session_holds_up_no_other<P: Place>() {
    let pair = Pair::<P>::new().await;
    let may_go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&may_go);
    let settings = settings::<P>("audit").retry(
        distributed_events::RetryPolicy::default()
            .attempts(1_000_000)
            .initial(Duration::from_millis(20))
            .multiplier(1.0),
    );
    let builder = pair.builder().on(settings, move |event: Noted, tx, _| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if event.session.as_deref() == Some("held") && !gate.load(Ordering::SeqCst) {
                return Err("not yet".into());
            }
            note(tx, &event.text).await
        })
    });
    let (publisher, subscriber) = (pair.publisher(), Running::start(builder.build().unwrap()));
    for number in 0..5 {
        publish(&pair.from.pool, &Noted::of("held", format!("held {number}"))).await;
        publish(&pair.from.pool, &Noted::of("free", format!("free {number}"))).await;
        publish(&pair.from.pool, &Noted::new("alone")).await;
    }
    let before = pair.effects(10).await;
    assert!(!before.iter().any(|text| text.starts_with("held")), "{before:?}");
    may_go.store(true, Ordering::SeqCst);
    let after = pair.effects(15).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    for session in ["held", "free"] {
        let seen: Vec<_> = after.iter().filter(|text| text.starts_with(session)).cloned().collect();
        assert_eq!(
            in_order::<P, _>(seen),
            (0..5).map(|number| format!("{session} {number}")).collect::<Vec<_>>()
        );
    }
}

pub async fn a_delayed_event_waits_for_its_time_and_blocks_nobody<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    // A broker that schedules has it out of our hands.
    let hour = Duration::from_secs(if P::SCHEDULES { 3 } else { 3600 });
    let pool = &pair.from.pool;
    publish_with(pool, &Noted::of("s", "delayed"), PublishOptions::new().delay(hour)).await;
    publish_with(pool, &Noted::of("s", "at"), PublishOptions::new().deliver_at(SystemTime::now() + hour))
        .await;
    publish_with(pool, &Noted::of("s", "past"), PublishOptions::new().deliver_at(SystemTime::now() - hour))
        .await;
    publish(pool, &Noted::of("s", "now")).await;
    let mut effects = pair.effects(2).await;
    effects.sort();
    assert_eq!(effects, ["now", "past"], "the session goes on");
    if !P::SCHEDULES {
        let delayed = "SELECT COUNT(*) FROM outbox WHERE status = 'pending'";
        assert_eq!(pair.from.number(delayed).await, 2);
        // The hour passes.
        sqlx::query("UPDATE outbox SET deliver_at = deliver_at - 3600000").execute(pool).await.unwrap();
    }
    let effects = pair.effects(4).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    let mut later = in_order::<P, _>(effects[2..].to_vec());
    // "at" comes first in the alphabet.
    later.sort_by_key(|text| !P::SESSIONS && text == "at");
    assert_eq!(later, ["delayed", "at"]);
}

pub async fn two_instances_of_a_subscriber_share_its_events<P: Place>() {
    let pair = Pair::<P>::new().await;
    let instance = || {
        noting_with(pair.builder(), settings::<P>("audit"), |event: &Noted, _| event.text.clone())
            .build()
            .unwrap()
    };
    let (first, second) = (Running::start(instance()), Running::start(instance()));
    let publisher = pair.publisher();
    for number in 0..100 {
        publish(&pair.from.pool, &Noted::of(&format!("s{}", number % 10), number)).await;
    }
    let seen = pair.effects(100).await;
    let processed = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
    eventually("all rows are marked", || pair.to.number(processed), |count| *count == 100).await;
    for running in [publisher, first, second] {
        running.stop().await.unwrap();
    }
    assert_eq!(pair.to.effects().await.len(), 100, "each once");
    for session in 0..10 {
        let of_session: Vec<i64> =
            seen.iter().map(|text| text.parse().unwrap()).filter(|number| number % 10 == session).collect();
        let of_session = in_order::<P, _>(of_session);
        assert!(of_session.is_sorted() && of_session.len() == 10, "session s{session}: {of_session:?}");
    }
}
