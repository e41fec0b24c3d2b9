//! What shares the handlers' transaction, and what handlers may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use distributed_events::inbox::handler::{Declaration, DeclaredHandler, HandlerScope, StateKey};
use distributed_events::{DistributedEvent, HandlerError, HandlerSettings, LocalBroker, State};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use tests::service::{Database, Running, quick};

use super::{Task, Todo, ended, publish, task, working, write};

const AUDIT: HandlerSettings = HandlerSettings::new("audit");

#[derive(Serialize, Deserialize)]
struct Done {
    number: i64,
}

impl DistributedEvent for Done {
    const NAME: &'static str = "handling.done";
}

#[tokio::test]
async fn the_handlers_of_an_event_share_one_transaction() {
    let database = Database::new().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&runs);
    let (builder, _runs) = working(&database, AUDIT);
    let bus = builder
        .on(AUDIT, move |event: Task, tx, context| {
            let (first, counts) = (context.attempt() == 1, Arc::clone(&counts));
            Box::pin(async move {
                counts.fetch_add(1, Ordering::Relaxed);
                write(tx, format!("second {}", event.number)).await?;
                if first { Err("the second handler fails at first".into()) } else { Ok(()) }
            })
        })
        .build()
        .unwrap();
    publish(&database.pool, &[task(1, Todo::Succeed)]).await;
    let running = Running::start(bus);
    ended(&database, 1).await[0].assert("processed", 1, Some("the second handler fails"));
    running.stop().await.unwrap();
    assert_eq!(
        database.effects().await,
        ["1", "second 1"],
        "the first one's effect is rolled back with the second's"
    );
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn subscriptions_of_one_event_fail_on_their_own() {
    let database = Database::new().await;
    let (builder, _runs) = working(&database, AUDIT);
    let bus = builder
        .on(HandlerSettings::new("billing"), |_event: Task, _tx, _context| {
            Box::pin(async { Err(HandlerError::dead_letter("not this one")) })
        })
        .build()
        .unwrap();
    publish(&database.pool, &[task(1, Todo::Succeed)]).await;
    let running = Running::start(bus);
    let mut rows = ended(&database, 2).await;
    running.stop().await.unwrap();
    rows.sort_by(|a, b| a.status.cmp(&b.status));
    rows[0].assert("dead", 1, Some("not this one"));
    rows[1].assert("processed", 0, None);
    assert_eq!(database.effects().await, ["1"]);
}

#[tokio::test]
async fn what_a_handler_publishes_is_sent_only_if_it_succeeds() {
    let database = Database::new().await;
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(AUDIT, |event: Task, tx, context| {
            let Todo::FailUntil(attempt) = event.todo else { panic!("{event:?}") };
            let now = context.attempt();
            Box::pin(async move {
                write(tx, format!("{} at {now}", event.number)).await?;
                Done { number: event.number }.publish(tx).await?;
                if now < attempt { Err("not yet".into()) } else { Ok(()) }
            })
        })
        .on(HandlerSettings::new("next"), |event: Done, tx, _context| {
            Box::pin(async move { Ok(write(tx, format!("done {}", event.number)).await?) })
        })
        .build()
        .unwrap();
    publish(&database.pool, &[task(1, Todo::FailUntil(2)), task(2, Todo::FailUntil(99))]).await;
    let running = Running::start(bus);
    ended(&database, 3).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["1 at 2", "done 1"]);
    assert_eq!(database.number("SELECT COUNT(*) FROM outbox WHERE event_type = 'handling.done'").await, 1);
}

/// A handler with a state, written as `#[event_handler]` would.
struct Counting;

#[derive(Clone)]
struct Prefix(&'static str);

impl DeclaredHandler<Sqlite> for Counting {
    type Event = Task;

    const DECLARATION: Declaration =
        Declaration { name: "counting", module: "handling", file: "handling.rs", line: 7, settings: AUDIT };

    fn states() -> Vec<StateKey> {
        vec![StateKey::of::<Prefix>(), StateKey::of::<Arc<AtomicU32>>()]
    }

    fn call<'a>(
        event: Task,
        tx: &'a mut Transaction<'_, Sqlite>,
        scope: HandlerScope<'a>,
    ) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async move {
            let State(Prefix(prefix)) = scope.state()?;
            let State(count) = scope.state::<Arc<AtomicU32>>()?;
            let so_far = count.fetch_add(1, Ordering::Relaxed);
            write(tx, format!("{prefix} {so_far} {} {}", event.number, scope.context().attempt())).await?;
            Ok(())
        })
    }
}

#[tokio::test]
async fn states_are_shared_by_all_runs() {
    let database = Database::new().await;
    let count = Arc::new(AtomicU32::new(0));
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .handler::<Counting>()
        .state(Prefix("counted"))
        .state(Arc::clone(&count))
        .build()
        .unwrap();
    publish(&database.pool, &[super::of("a", 1, Todo::Succeed), super::of("a", 2, Todo::Succeed)]).await;
    let running = Running::start(bus);
    ended(&database, 2).await;
    running.stop().await.unwrap();
    assert_eq!(database.effects().await, ["counted 0 1 1", "counted 1 2 1"]);
    assert_eq!(count.load(Ordering::Relaxed), 2);
}
