//! What one publish can ask for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributed_events::{DistributedEvent, PublishOptions};
use tests::eventually::eventually;
use tests::service::{Database, Running};

use super::{begin, happened, seeing, sees};

const HOUR: Duration = Duration::from_secs(3600);

async fn publish(database: &Database, number: i64, options: PublishOptions) {
    let mut tx = begin(&database.pool).await;
    happened(number).publish_with(&mut tx, options).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_delayed_event_is_delivered_when_it_is_due_and_not_before() {
    let database = Database::new().await;
    let (builder, seen) = seeing(&database);
    let at = SystemTime::now() + HOUR;
    publish(&database, 1, PublishOptions::new().delay(HOUR)).await;
    publish(&database, 2, PublishOptions::new().deliver_at(at)).await;
    publish(&database, 3, PublishOptions::new()).await;
    let waits = database.number("SELECT deliver_at - created_at FROM outbox WHERE seq = 1").await;
    assert_eq!(waits, 3_600_000, "by the database's clock");
    let at = i64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    assert_eq!(database.number("SELECT deliver_at FROM outbox WHERE seq = 2").await, at);

    let running = Running::start(builder.build().unwrap());
    assert_eq!(sees(&seen, 1).await[0].0, 3, "delayed events block nobody");
    let pending = "SELECT COUNT(*) FROM outbox WHERE status = 'pending'";
    eventually("the other is marked", || database.number(pending), |pending| *pending == 2).await;
    for due in [2, 1] {
        sqlx::query("UPDATE outbox SET deliver_at = created_at - 1 WHERE seq = ?")
            .bind(due)
            .execute(&database.pool)
            .await
            .unwrap();
        assert_eq!(sees(&seen, 4 - usize::try_from(due).unwrap()).await.last().unwrap().0, due);
    }
    running.stop().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_event_that_expires_in_the_outbox_ends_dead() {
    let database = Database::new().await;
    let (builder, seen) = seeing(&database);
    publish(&database, 1, PublishOptions::new().ttl(HOUR)).await;
    publish(&database, 2, PublishOptions::new().ttl(HOUR)).await;
    let lives = database.number("SELECT expires_at - created_at FROM outbox WHERE seq = 1").await;
    assert_eq!(lives, 3_600_000);
    sqlx::query("UPDATE outbox SET expires_at = created_at WHERE seq = 1")
        .execute(&database.pool)
        .await
        .unwrap();
    let running = Running::start(builder.build().unwrap());
    let dead = "SELECT COUNT(*) FROM outbox WHERE status = 'dead' AND last_error = 'expired'";
    eventually("the first is dead", || database.number(dead), |dead| *dead == 1).await;
    assert_eq!(sees(&seen, 1).await[0].0, 2, "the other lives");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_that_expires_in_the_inbox_ends_dead_without_its_handler() {
    let database = Database::new().await;
    let (builder, seen) = seeing(&database);
    // Attempts are due in an hour, so that the row is there before the processor may run it.
    let trigger = "CREATE TRIGGER waits AFTER INSERT ON inbox BEGIN \
        UPDATE inbox SET next_attempt_at = NEW.received_at + 3600000 WHERE seq = NEW.seq; END";
    sqlx::query(trigger).execute(&database.pool).await.unwrap();
    publish(&database, 1, PublishOptions::new().ttl(HOUR)).await;
    let running = Running::start(builder.build().unwrap());
    let arrived = "SELECT COUNT(*) FROM inbox WHERE expires_at IS NOT NULL";
    eventually("it is in the inbox", || database.number(arrived), |count| *count == 1).await;
    running.stop().await.unwrap();
    sqlx::query("UPDATE inbox SET expires_at = received_at - 1, next_attempt_at = NULL")
        .execute(&database.pool)
        .await
        .unwrap();

    let running = Running::start(seeing(&database).0.build().unwrap());
    let dead = "SELECT COUNT(*) FROM inbox WHERE status = 'dead' AND last_error = 'expired' AND attempts = 0";
    eventually("it is dead", || database.number(dead), |dead| *dead == 1).await;
    running.stop().await.unwrap();
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn headers_ids_and_times_reach_the_handler() {
    let database = Database::new().await;
    let (builder, seen) = seeing(&database);
    let id = distributed_events::EventId::new();
    let options =
        PublishOptions::new().id(id).correlation_id("flow-1").header("tenant", "Ærø").header("empty", "");
    publish(&database, 1, options).await;
    let running = Running::start(builder.build().unwrap());
    let (_, context) = sees(&seen, 1).await.remove(0);
    running.stop().await.unwrap();
    assert_eq!((context.id(), context.correlation_id()), (id, Some("flow-1")));
    assert_eq!((context.header("tenant"), context.header("empty")), (Some("Ærø"), Some("")));
    assert_eq!((context.subscription(), context.name()), ("audit", "publishing.happened"));
    assert_eq!((context.version(), context.session_id(), context.attempt()), (1, None, 1));
    let age = context.received_at().duration_since(context.created_at().unwrap()).unwrap();
    assert!(age < Duration::from_secs(30), "{age:?}");
}
