//! Spans of what carries many events at once: linked to the spans that published them, in traces of their own.

use std::collections::HashSet;

use distributed_events::DistributedEvent;
use distributed_events::broker::SendError;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::trace::SpanData;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running};

use super::seen::{Traces, attribute, is_child, said};
use super::{Placed, billing_on, placed};

/// Where the spans are that a span is linked to.
fn links(span: &SpanData) -> HashSet<(TraceId, SpanId)> {
    span.links.iter().map(|link| (link.span_context.trace_id(), link.span_context.span_id())).collect()
}

#[tokio::test]
async fn sending_receiving_and_settling_are_linked_to_what_published_each_event() {
    let traces = Traces::listen();
    let database = Database::new().await;
    let broker = MemoryBroker::new();
    let bus = billing_on(&database, broker.clone());
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Placed::publish_all(&mut tx, [placed(1), placed(2), placed(3)]).await.unwrap();
    tx.commit().await.unwrap();
    let published = traces.named("publish orders", 3).await;
    let known: HashSet<_> =
        published.iter().map(|span| (span.span_context.trace_id(), span.span_context.span_id())).collect();
    assert_eq!(known.len(), 3, "each event has a span of its own");

    broker.refuse_next_send(SendError::Unavailable { reason: "away".to_owned(), retry_after: None });
    let running = Running::start(bus);
    let sent = traces.named("send orders", 2).await;
    let settled = traces.named("settle orders", 1).await;
    let received = traces.named("receive orders", 1).await;
    running.stop().await.unwrap();

    assert_eq!(attribute(&sent[0], "error.type"), "broker_unavailable");
    assert!(matches!(&sent[0].status, Status::Error { description } if description.contains("away")));
    for span in [&sent[1], &received[0]] {
        assert_eq!(links(span), known, "{span:#?}");
        assert_eq!(span.span_kind, SpanKind::Client);
        assert_eq!(attribute(span, "messaging.batch.message_count"), "3");
        assert!(span.parent_span_id == SpanId::INVALID && span.status == Status::Unset, "{span:#?}");
    }
    assert_eq!(attribute(&sent[1], "messaging.operation.type"), "send");
    assert_eq!(attribute(&received[0], "messaging.destination.subscription.name"), "billing");
    let ids: HashSet<_> =
        received[0].links.iter().map(|link| said(&link.attributes, "messaging.message.id")).collect();
    let expected: HashSet<_> = published.iter().map(|span| attribute(span, "messaging.message.id")).collect();
    assert_eq!(ids, expected);
    assert!(is_child(&settled[0], &received[0]), "{settled:#?}");
    assert_eq!(attribute(&settled[0], "messaging.servicebus.disposition_status"), "complete");
}
