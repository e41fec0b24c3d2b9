//! One message, again and again.

use distributed_events::broker::{Message, Source};
use distributed_events::{DistributedEvent, EventId};
use tests::broker_conformance::{Noted, effects, noting};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick};

const DELIVERIES: u64 = 1000;

fn message(id: EventId, note: &Noted) -> Message {
    let mut message = Message::default();
    message.message_id = Some(id.to_string());
    message.subject = Some(Noted::NAME.to_owned());
    message.body = serde_json::to_vec(note).unwrap();
    message
}

/// Half of them are there at once, and half come when it has been handled long since.
#[tokio::test]
async fn a_message_that_is_delivered_a_thousand_times_is_handled_once() {
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let bus =
        noting(quick(&database.pool).broker(broker.clone()), "audit", |note: &Noted, _| note.text.clone())
            .build()
            .unwrap();
    let source = Source::new("events", "audit");
    let id = EventId::new();
    let deliver = |count| {
        for _ in 0..count {
            broker.enqueue(&source, message(id, &Noted::new("once")));
        }
    };
    deliver(DELIVERIES / 2);
    let running = Running::start(bus);
    let completed = || async { broker.completed(&source) };
    eventually("the first half is completed", completed, |count| *count == DELIVERIES / 2).await;
    assert_eq!(effects(&database, 1).await, ["once"]);
    deliver(DELIVERIES / 2);
    eventually("all are completed", completed, |count| *count == DELIVERIES).await;
    // A message behind them is handled, and so everything before it has been.
    broker.enqueue(&source, message(EventId::new(), &Noted::new("next")));
    assert_eq!(effects(&database, 2).await, ["once", "next"]);
    let bus = running.bus.clone();
    running.stop().await.unwrap();
    let stats = bus.stats();
    assert_eq!((stats.processed, stats.duplicates), (2, DELIVERIES - 1));
    assert_eq!(database.number("SELECT COUNT(*) FROM inbox").await, 2);
    assert_eq!(broker.waiting(&source), (0, 0), "all were settled");
}
