//! Whose turn it is where every shard has more than a worker takes at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::storage::{Body, IncomingEvent, Storage, shard_of};
use distributed_events::{DistributedEvent, EventContext, EventId, HandlerSettings, LocalBroker};
use sqlx::Sqlite;
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

use super::{Task, Todo, of};

/// Shards with more than a page, and a page that takes longer than a worker stays.
const SHARDS: usize = 7;
const EVENTS: usize = 101;
const HANDLING: Duration = Duration::from_millis(6);

#[tokio::test]
async fn no_shard_has_a_second_turn_before_every_other_has_had_one() {
    let database = Database::new().await;
    let mut shards = HashSet::new();
    let sessions: Vec<_> = (0..)
        .map(|n| format!("session {n}"))
        .filter(|name| shards.insert(shard_of(name)))
        .take(SHARDS)
        .collect();
    let mut events = Vec::new();
    for _ in 0..EVENTS {
        for session in &sessions {
            let body = serde_json::to_string(&of(session, 0, Todo::Succeed)).unwrap();
            let mut event = IncomingEvent::new(EventId::new(), Task::NAME, Body::Text(body));
            event.session_id = Some(session.clone());
            events.push(event);
        }
    }
    Sqlite::ingest(&mut database.pool.acquire().await.unwrap(), "slow", &events).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&handled);
    let builder = quick(&database.pool).broker(LocalBroker::new()).on(
        HandlerSettings::new("slow"),
        move |_task: Task, _tx, context: &EventContext| {
            let session = context.session_id().unwrap_or_default().to_owned();
            let seen = Arc::clone(&seen);
            Box::pin(async move {
                tokio::time::sleep(HANDLING).await;
                seen.lock().unwrap().push(session);
                Ok(())
            })
        },
    );
    let running = Running::start(builder.build().unwrap());
    let count = || async { handled.lock().unwrap().len() };
    eventually("all are handled", count, |count| *count == SHARDS * EVENTS).await;
    running.stop().await.unwrap();
    let mut turns = handled.lock().unwrap().clone();
    turns.dedup();
    let first: HashSet<_> = turns.iter().take(SHARDS).collect();
    assert_eq!(first.len(), SHARDS, "{turns:?}");
}
