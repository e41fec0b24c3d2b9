//! One trace from the caller's span to the last handler's, whatever happens on the way.

use distributed_events::broker::{Message, Source};
use distributed_events::{Correlation, DistributedEvent, HandlerSettings, LocalBroker, PublishOptions};
use opentelemetry::trace::{SpanKind, Status};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick};
use tracing::Instrument;

use super::seen::{Traces, attribute, is_child};
use super::{BILLING, Charged, Placed, billing_on, charge, note, placed, publish};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The header of the last event that was published.
async fn header(database: &Database, name: &str) -> Option<String> {
    let sql = "SELECT json_extract(headers, '$.' || ?) FROM outbox ORDER BY seq DESC LIMIT 1";
    sqlx::query_scalar(sql).bind(name).fetch_one(&database.pool).await.unwrap()
}

#[tokio::test]
async fn a_trace_goes_from_the_request_through_both_services_and_back() {
    let traces = Traces::listen();
    let (ordering, billing) = (Database::new().await, Database::new().await);
    let broker = LocalBroker::new();
    let shop = quick(&ordering.pool)
        .broker(broker.clone())
        .publishes::<Placed>()
        .on(HandlerSettings::new("shop"), |event: Charged, tx, context| Box::pin(note(event, tx, context)))
        .build()
        .unwrap();
    let till = quick(&billing.pool)
        .broker(broker)
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .build()
        .unwrap();
    let (shop, till) = (Running::start(shop), Running::start(till));
    publish(&ordering.pool, &placed(7)).instrument(tracing::info_span!("request")).await;
    eventually("it is charged and noted", || ordering.effects(), |effects| effects == &["7"]).await;
    let noted = traces.one("process charges").await;
    shop.stop().await.unwrap();
    till.stop().await.unwrap();

    let request = traces.one("request").await;
    let published = traces.one("publish orders").await;
    let processed = traces.one("process orders").await;
    let charged = traces.one("charging the card").await;
    let answered = traces.one("publish charges").await;
    assert!(is_child(&published, &request), "{published:#?}");
    assert!(is_child(&processed, &published) && processed.parent_span_is_remote, "{processed:#?}");
    assert!(is_child(&charged, &processed), "the handler's own spans are inside: {charged:#?}");
    assert!(is_child(&answered, &processed), "and what it publishes: {answered:#?}");
    assert!(is_child(&noted, &answered), "{noted:#?}");
    assert_eq!((&published.span_kind, &processed.span_kind), (&SpanKind::Producer, &SpanKind::Consumer));

    let said = |name| attribute(&processed, name);
    assert_eq!(said("messaging.operation.type"), "process");
    assert_eq!(said("messaging.destination.name"), "orders");
    assert_eq!(said("messaging.destination.subscription.name"), "billing");
    assert_eq!(said("distributed_events.event.name"), "telemetry.placed");
    assert_eq!(said("distributed_events.session.id"), "7");
    assert_eq!(said("distributed_events.attempt"), "1");
    assert_eq!(said("distributed_events.outcome"), "processed");
    assert_eq!(said("messaging.message.id"), attribute(&published, "messaging.message.id"));
    let conversation = "messaging.message.conversation_id";
    assert_eq!(said(conversation), attribute(&noted, conversation));
    assert_eq!(attribute(&published, "messaging.operation.type"), "create");
    assert_eq!(attribute(&published, "distributed_events.lane"), "default");
}

#[tokio::test]
async fn every_attempt_is_a_span_that_says_how_it_ended() {
    let traces = Traces::listen();
    let database = Database::new().await;
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .publishes::<Charged>()
        .build()
        .unwrap();
    let running = Running::start(bus);
    publish(&database.pool, &Placed { order_id: 1, fails_until: 2 }).await;
    publish(&database.pool, &Placed { order_id: 2, fails_until: 9 }).await;
    let published = traces.named("publish orders", 2).await;
    let attempts = traces.named("process orders", 5).await;
    running.stop().await.unwrap();

    let of = |order: usize| {
        let mut runs: Vec<_> = attempts.iter().filter(|run| is_child(run, &published[order])).collect();
        runs.sort_by_key(|run| attribute(run, "distributed_events.attempt"));
        runs.iter()
            .map(|run| {
                let failed =
                    matches!(&run.status, Status::Error { description } if description.contains("no card"));
                (attribute(run, "distributed_events.outcome"), attribute(run, "error.type"), failed)
            })
            .collect::<Vec<_>>()
    };
    let run = |outcome: &str, kind: &str, failed| (outcome.to_owned(), kind.to_owned(), failed);
    assert_eq!(of(0), [run("retried", "handler", true), run("processed", "", false)]);
    let retried = run("retried", "handler", true);
    assert_eq!(of(1), [retried.clone(), retried, run("dead", "handler", true)]);
    let told =
        attempts.iter().flat_map(|run| run.events.iter()).filter(|event| event.name.contains("no card"));
    assert_eq!(told.count(), 4, "what is logged of an attempt stands in its span");
}

#[tokio::test]
async fn without_a_span_around_it_an_event_stays_in_the_trace_that_its_correlation_names() {
    let traces = Traces::listen();
    let database = Database::new().await;
    let correlation = Correlation::new("request-1").in_trace(CALLER).with_trace_state("shop=42");
    correlation.scope(publish(&database.pool, &placed(1))).await;
    let published = traces.one("publish orders").await;
    assert_eq!(published.span_context.trace_id().to_string(), TRACE);
    assert_eq!(published.parent_span_id.to_string(), "b7ad6b7169203331");
    let written = format!("00-{TRACE}-{}-01", published.span_context.span_id());
    assert_eq!(header(&database, "traceparent").await, Some(written));
    assert_eq!(header(&database, "tracestate").await.as_deref(), Some("shop=42"));
}

#[tokio::test]
async fn a_traceparent_of_the_callers_own_is_left_as_it_is() {
    let _traces = Traces::listen();
    let database = Database::new().await;
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    placed(1).publish_with(&mut tx, PublishOptions::new().header("traceparent", CALLER)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(header(&database, "traceparent").await.as_deref(), Some(CALLER));
}

#[tokio::test]
async fn a_publish_that_fails_says_so() {
    let traces = Traces::listen();
    let database = Database::new().await;
    let id = distributed_events::EventId::new();
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    placed(1).publish_with(&mut tx, PublishOptions::new().id(id)).await.unwrap();
    placed(1).publish_with(&mut tx, PublishOptions::new().id(id)).await.unwrap_err();
    let mut spans = traces.named("publish orders", 2).await;
    let failed = spans.pop().unwrap();
    assert!(matches!(failed.status, Status::Error { .. }), "{failed:#?}");
    assert_eq!(attribute(&failed, "error.type"), "duplicate");
    assert_eq!(spans.pop().unwrap().status, Status::Unset);
}

#[tokio::test]
async fn a_message_of_an_older_azure_client_is_handled_in_the_trace_of_its_diagnostic_id() {
    let traces = Traces::listen();
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let bus = billing_on(&database, broker.clone());
    let mut message = Message::default();
    message.subject = Some(Placed::NAME.to_owned());
    message.message_id = Some("1".to_owned());
    message.body = serde_json::to_vec(&placed(1)).unwrap();
    message.properties.insert("Diagnostic-Id".to_owned(), CALLER.to_owned());
    broker.enqueue(&Source::new("orders", "billing"), message);
    let running = Running::start(bus);
    let processed = traces.one("process orders").await;
    running.stop().await.unwrap();
    assert_eq!(processed.span_context.trace_id().to_string(), TRACE);
    assert_eq!(processed.parent_span_id.to_string(), "b7ad6b7169203331");
    let answered = header(&database, "traceparent").await.unwrap();
    assert!(answered.contains(TRACE), "{answered}");
}
