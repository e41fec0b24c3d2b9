//! The whole way of an event, over the local broker.

use distributed_events::{DistributedEvent, HandlerSettings, LocalBroker};
use serde::{Deserialize, Serialize};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

#[derive(Serialize, Deserialize)]
struct Happened {
    number: i64,
}

impl DistributedEvent for Happened {
    const NAME: &'static str = "happened";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some((self.number % 3).to_string())
    }
}

#[tokio::test]
async fn events_reach_another_database_once_and_in_order_of_their_session() {
    let (from, to) = (Database::new().await, Database::new().await);
    let broker = LocalBroker::new();
    let publisher = quick(&from.pool).broker(broker.clone()).build().unwrap();
    let subscriber = quick(&to.pool)
        .broker(broker)
        .on(HandlerSettings::new("audit"), |event: Happened, tx, _context| {
            Box::pin(async move {
                let sql = "INSERT INTO effects (value) VALUES (?)";
                sqlx::query(sql).bind(event.number.to_string()).execute(&mut **tx).await?;
                Ok(())
            })
        })
        .build()
        .unwrap();
    for number in 0..30 {
        let mut tx = from.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Happened { number }.publish(&mut tx).await.unwrap();
        // Every fifth transaction is rolled back: its event was never there.
        if number % 5 == 4 { tx.rollback().await.unwrap() } else { publisher.commit(tx).await.unwrap() }
    }
    let (publisher, subscriber) = (Running::start(publisher), Running::start(subscriber));
    eventually("24 effects", || to.effects(), |effects| effects.len() >= 24).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();

    let effects: Vec<i64> = to.effects().await.iter().map(|value| value.parse().unwrap()).collect();
    for session in 0..3 {
        let seen: Vec<_> = effects.iter().copied().filter(|number| number % 3 == session).collect();
        let expected: Vec<_> = (0..30).filter(|number| number % 5 != 4 && number % 3 == session).collect();
        assert_eq!(seen, expected, "session {session}");
    }
    assert_eq!(from.number("SELECT COUNT(*) FROM outbox WHERE status = 'sent'").await, 24);
    assert_eq!(to.number("SELECT COUNT(*) FROM inbox WHERE status = 'processed'").await, 24);
    let held = "SELECT COUNT(*) FROM distributed_events_leases WHERE owner IS NOT NULL";
    assert_eq!((from.number(held).await, to.number(held).await), (0, 0), "leases are given back");
}
