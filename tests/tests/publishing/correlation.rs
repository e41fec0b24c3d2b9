//! The thread that ties the events of a flow together.

use distributed_events::broker::{Message, Source};
use distributed_events::{
    Correlation, DistributedEvent, EventContext, HandlerSettings, LocalBroker, PublishOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick};

use super::{Happened, begin, happened};

/// What the handlers of [`Happened`] publish.
#[derive(Serialize, Deserialize)]
struct Followed {
    number: i64,
}

impl DistributedEvent for Followed {
    const NAME: &'static str = "publishing.followed";
}

#[derive(Debug)]
struct Row {
    correlation_id: String,
    causation_id: Option<String>,
    traceparent: String,
}

async fn rows(pool: &SqlitePool, name: &str) -> Vec<Row> {
    let sql = "SELECT correlation_id, causation_id, json_extract(headers, '$.traceparent') AS traceparent \
        FROM outbox WHERE event_type = ? ORDER BY seq";
    let rows: Vec<(String, Option<String>, String)> =
        sqlx::query_as(sql).bind(name).fetch_all(pool).await.unwrap();
    rows.into_iter()
        .map(|(correlation_id, causation_id, traceparent)| Row { correlation_id, causation_id, traceparent })
        .collect()
}

/// The trace id and the span id of a well-formed `traceparent`.
fn trace(traceparent: &str) -> (String, String) {
    let parts: Vec<_> = traceparent.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{traceparent}");
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test]
async fn without_a_current_correlation_one_is_made_for_each_event() {
    let database = Database::new().await;
    let mut tx = begin(&database.pool).await;
    happened(1).publish(&mut tx).await.unwrap();
    happened(2).publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let rows = rows(&database.pool, Happened::NAME).await;
    assert_ne!(rows[0].correlation_id, rows[1].correlation_id);
    assert_ne!(trace(&rows[0].traceparent).0, trace(&rows[1].traceparent).0);
    assert!(rows.iter().all(|row| row.causation_id.is_none() && !row.correlation_id.is_empty()));
}

#[tokio::test]
async fn the_correlation_in_scope_is_the_events_also_in_a_spawned_task() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let database = Database::new().await;
    let request = Correlation::new("request-1").caused_by("click-1").in_trace(TRACE);
    let pool = database.pool.clone();
    request
        .scope(async {
            let mut tx = begin(&pool).await;
            happened(1).publish(&mut tx).await.unwrap();
            let own = PublishOptions::new().correlation_id("mine");
            happened(2).publish_with(&mut tx, own).await.unwrap();
            tx.commit().await.unwrap();
            let here = Correlation::current().unwrap();
            let pool = pool.clone();
            let spawned = here.scope(async move {
                let mut tx = begin(&pool).await;
                happened(3).publish(&mut tx).await.unwrap();
                tx.commit().await.unwrap();
            });
            tokio::spawn(spawned).await.unwrap();
        })
        .await;
    let rows = rows(&database.pool, Happened::NAME).await;
    let ids: Vec<_> = rows.iter().map(|row| row.correlation_id.as_str()).collect();
    assert_eq!(ids, ["request-1", "mine", "request-1"]);
    assert!(rows.iter().all(|row| row.causation_id.as_deref() == Some("click-1")));
    let traces: Vec<_> = rows.iter().map(|row| trace(&row.traceparent)).collect();
    assert!(traces.iter().all(|(id, _)| id == "0af7651916cd43dd8448eb211c80319c"), "{traces:?}");
    assert!(
        traces[0].1 != traces[1].1 && traces[0].1 != "b7ad6b7169203331",
        "each event is a span of its own"
    );
}

#[tokio::test]
async fn what_a_handler_publishes_inherits_the_flow_wherever_it_calls_publish() {
    let database = Database::new().await;
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        // One publishes inside its future, the other when it is called.
        .on(HandlerSettings::new("inside"), |event: Happened, tx, _context| {
            Box::pin(async move {
                Followed { number: event.number }.publish(tx).await?;
                Ok(())
            })
        })
        .on(HandlerSettings::new("at-the-call"), |event: Happened, tx, _context: &EventContext| {
            let published = Followed::publish_all(tx, [Followed { number: event.number }]);
            Box::pin(async move {
                published.await?;
                Ok(())
            })
        })
        .build()
        .unwrap();
    let mut tx = begin(&database.pool).await;
    let id = happened(1).publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let running = Running::start(bus);
    let followed = || rows(&database.pool, Followed::NAME);
    let followed = eventually("both have published", followed, |rows| rows.len() == 2).await;
    running.stop().await.unwrap();
    let first = rows(&database.pool, Happened::NAME).await.remove(0);
    for row in followed {
        assert_eq!(row.correlation_id, first.correlation_id);
        assert_eq!(row.causation_id, Some(id.to_string()));
        let (trace_id, span) = trace(&row.traceparent);
        assert_eq!(trace_id, trace(&first.traceparent).0);
        assert_ne!(span, trace(&first.traceparent).1);
    }
}

#[tokio::test]
async fn a_foreign_correlation_id_that_can_not_travel_on_poisons_no_handler() {
    let (database, broker) = (Database::new().await, MemoryBroker::new());
    let bus = quick(&database.pool)
        .broker(broker.clone())
        .on(HandlerSettings::new("audit"), |event: Happened, tx, _context| {
            Box::pin(async move {
                Followed { number: event.number }.publish(tx).await?;
                Ok(())
            })
        })
        .build()
        .unwrap();
    for (number, id) in [String::new(), "x".repeat(129), "flow".to_owned()].into_iter().enumerate() {
        let mut message = Message::default();
        message.message_id = Some(uuid::Uuid::new_v4().to_string());
        message.subject = Some(Happened::NAME.to_owned());
        message.body = format!("{{\"number\": {number}}}").into_bytes();
        message.correlation_id = Some(id);
        broker.enqueue(&Source::new("events", "audit"), message);
    }
    let running = Running::start(bus);
    let processed = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
    eventually("all are handled", || database.number(processed), |count| *count == 3).await;
    running.stop().await.unwrap();
    let rows = rows(&database.pool, Followed::NAME).await;
    assert_eq!(rows.iter().filter(|row| row.correlation_id == "flow").count(), 1);
    assert!(rows.iter().all(|row| (1..=128).contains(&row.correlation_id.len())), "{rows:?}");
}
