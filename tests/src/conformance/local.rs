//! The local broker's memory (rule 27).

use distributed_events::storage::{AdminStorage, Body, IncomingEvent, LocalStorage, LocalSubscription};

use super::{Fixture, incoming};

fn subscription(store: &str, topic: &str, name: &str, events: &[&str]) -> LocalSubscription {
    LocalSubscription {
        topic: topic.to_owned(),
        name: name.to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        store: store.to_owned(),
    }
}

async fn owed<F: Fixture>(fixture: &F, store: &str, limit: u32) -> Vec<(i64, String, IncomingEvent)> {
    let owed = F::DB::owed(&mut *fixture.conn().await, store, limit).await.unwrap();
    owed.into_iter().map(|owed| (owed.seq, owed.subscription, owed.event)).collect()
}

/// A process that handles less, or an older version, takes nothing away from the others of its service.
pub async fn subscriptions_are_added_and_never_taken_back<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut conn = fixture.conn().await;
    let first = [
        subscription("one", "orders", "billing", &["a", "b\"'"]),
        subscription("one", "orders", "audit", &[]),
    ];
    let second = [subscription("two", "orders", "billing", &["a"])];
    F::DB::record_subscriptions(&mut *conn, "one", &first).await.unwrap();
    F::DB::record_subscriptions(&mut *conn, "two", &second).await.unwrap();
    let all = F::DB::subscriptions(&mut *conn).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(first.iter().chain(&second).all(|subscription| all.contains(subscription)), "{all:#?}");
    let others = [
        subscription("one", "payments", "billing", &["c"]),
        subscription("one", "orders", "billing", &["d", "a"]),
    ];
    F::DB::record_subscriptions(&mut *conn, "one", &others).await.unwrap();
    F::DB::record_subscriptions(&mut *conn, "one", &[]).await.unwrap();
    let mut all = F::DB::subscriptions(&mut *conn).await.unwrap();
    all.iter_mut().for_each(|subscription| subscription.events.sort());
    assert_eq!(all.len(), 4);
    let merged = subscription("one", "orders", "billing", &["a", "b\"'", "d"]);
    let expected = [&first[1], &others[0], &merged, &second[0]];
    assert!(expected.into_iter().all(|subscription| all.contains(subscription)), "{all:#?}");
}

/// Only an operator knows that a subscription is gone for good.
pub async fn a_subscription_is_forgotten_with_what_it_is_owed<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut conn = fixture.conn().await;
    for store in ["one", "two"] {
        let both = [
            subscription(store, "orders", "billing", &["a"]),
            subscription(store, "orders", "audit", &["a"]),
        ];
        F::DB::record_subscriptions(&mut *conn, store, &both).await.unwrap();
        F::DB::owe(&mut *conn, store, "billing", &[incoming("x"), incoming("y")]).await.unwrap();
        F::DB::owe(&mut *conn, store, "audit", &[incoming("z")]).await.unwrap();
    }
    assert_eq!(F::DB::forget_subscription(&mut *conn, "one", "billing").await.unwrap(), 2);
    assert_eq!(F::DB::forget_subscription(&mut *conn, "one", "billing").await.unwrap(), 0);
    let all = F::DB::subscriptions(&mut *conn).await.unwrap();
    let left: Vec<_> = all.iter().map(|found| (found.store.as_str(), found.name.as_str())).collect();
    assert_eq!(left, [("one", "audit"), ("two", "audit"), ("two", "billing")]);
    assert_eq!((owed(&fixture, "one", 9).await.len(), owed(&fixture, "two", 9).await.len()), (1, 3));
}

/// In the order in which they were sent, a page at a time.
pub async fn owed_events_are_paid_in_order<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut events: Vec<_> = (0..5).map(|n| incoming(&n.to_string())).collect();
    events[1].session_id = Some("s\u{10ffff}\"".to_owned());
    events[1].headers.insert("h".to_owned(), "v".to_owned());
    events[1].created_at = Some(std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123));
    events[2].body = Body::Raw(vec![0, 255, 128]);
    let mut conn = fixture.conn().await;
    F::DB::owe(&mut *conn, "one", "billing", &events[..3]).await.unwrap();
    F::DB::owe(&mut *conn, "two", "billing", &events[..1]).await.unwrap();
    F::DB::owe(&mut *conn, "one", "audit", &events[3..]).await.unwrap();
    let counts = F::DB::count_outbox(&mut *conn).await.unwrap();
    assert_eq!((counts.owed["billing"], counts.owed["audit"]), (4, 2));
    let page = owed(&fixture, "one", 4).await;
    assert_eq!(page.iter().map(|(_, _, event)| event.clone()).collect::<Vec<_>>(), events[..4]);
    assert_eq!(
        page.iter().map(|(_, to, _)| to.as_str()).collect::<Vec<_>>(),
        ["billing", "billing", "billing", "audit"]
    );
    let seqs: Vec<_> = page.iter().map(|(seq, _, _)| *seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
    F::DB::paid(&mut *conn, &seqs).await.unwrap();
    let rest = owed(&fixture, "one", 4).await;
    assert_eq!((rest.len(), rest[0].2.id), (1, events[4].id));
    assert_eq!(owed(&fixture, "two", 4).await.len(), 1);
    assert!(owed(&fixture, "three", 4).await.is_empty());
}

/// A crash between owing an event and marking it as sent lets it be owed again.
pub async fn owing_twice_is_owing_once<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..2).map(|n| incoming(&n.to_string())).collect();
    let mut conn = fixture.conn().await;
    F::DB::owe(&mut *conn, "one", "billing", &events[..1]).await.unwrap();
    F::DB::owe(&mut *conn, "one", "billing", &events).await.unwrap();
    F::DB::owe(&mut *conn, "one", "audit", &events[..1]).await.unwrap();
    let found: Vec<_> =
        owed(&fixture, "one", 9).await.into_iter().map(|(_, to, event)| (to, event.id)).collect();
    let expected =
        [("billing", 0), ("billing", 1), ("audit", 0)].map(|(to, n)| (to.to_owned(), events[n].id));
    assert_eq!(found, expected);
}
