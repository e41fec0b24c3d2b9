//! What the connections to Service Bus meet is counted, and traces travel by every name that its users know.

use std::time::Duration;

use distributed_events::broker::{Delivery, Receiver, Source};
use distributed_events::{Broker, Correlation, Stats};
use tests::broker_conformance::{Noted, publish};
use tests::emulator::Emulator;
use tests::eventually::eventually;
use tests::service::Running;
use tests::street::{Amqp, Http, Street, Way, entities};

use super::seen::{Figures, Traces, attribute, said};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn counted(running: &Running, counts: impl Fn(&Stats) -> bool) {
    eventually("it is counted", || async { running.bus.stats() }, counts).await;
}

async fn an_answer_that_it_is_too_busy_is_counted<W: Way>() {
    let street = Street::<W>::before(Emulator::start_with(&entities(W::SESSIONS), &["--no-auth"])).await;
    let publisher = street.publisher(street.broker());
    street.publish(0..1).await;
    counted(&publisher, |stats| stats.sent == 1 && stats.throttled == 0).await;
    street.emulator.be_busy(1).await;
    street.publish(1..2).await;
    counted(&publisher, |stats| stats.sent == 2 && stats.throttled > 0).await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_over_amqp_that_it_is_too_busy_is_counted() {
    an_answer_that_it_is_too_busy_is_counted::<Amqp>().await;
}

#[tokio::test]
async fn an_answer_over_https_that_it_is_too_busy_is_counted() {
    an_answer_that_it_is_too_busy_is_counted::<Http>().await;
}

#[tokio::test]
async fn a_connection_in_the_place_of_one_that_was_cut_is_counted_and_measured() {
    let (street, figures) = (Street::<Amqp>::new().await, Figures::new());
    let bus = street.builder(&street.from, street.broker()).meter(figures.meter()).build().unwrap();
    let publisher = Running::start(bus);
    street.publish(0..1).await;
    counted(&publisher, |stats| stats.sent == 1 && stats.reconnects == 0).await;
    street.proxy.cut();
    street.publish(1..2).await;
    counted(&publisher, |stats| stats.sent == 2 && stats.reconnects == 1).await;
    let of_it = "messaging.system=servicebus server.address=localhost";
    figures.become_so("distributed_events.broker.reconnects", &[(of_it, 1.0)]).await;
    publisher.stop().await.unwrap();
}

/// Waits for one message.
async fn receive(receiver: &mut Box<dyn Receiver>) -> Delivery {
    for _ in 0..4 {
        if let Some(delivery) = receiver.receive(1, Duration::from_secs(5)).await.unwrap().pop() {
            return delivery;
        }
    }
    panic!("no message has come");
}

async fn a_lock_that_ends_before_its_message_is_settled_is_counted<W: Way>() {
    let street = Street::<W>::with(&entities(false)).await;
    let publisher = street.publisher(street.broker());
    street.publish(0..1).await;
    let (broker, source) = (street.broker(), Source::new("events", "audit"));
    let mut first = broker.receiver(&source).await.unwrap().unwrap();
    let delivery = receive(&mut first).await;
    // Somebody else gets it when the lock has run out, and not before.
    let mut second = broker.receiver(&source).await.unwrap().unwrap();
    assert_eq!(receive(&mut second).await.message.message_id, delivery.message.message_id);
    assert_eq!(broker.stats().locks_lost, 0);
    first.complete(&[delivery.token]).await.unwrap();
    eventually("it is counted", || async { broker.stats().locks_lost }, |lost| *lost == 1).await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn a_lock_over_amqp_that_ends_before_its_message_is_settled_is_counted() {
    a_lock_that_ends_before_its_message_is_settled_is_counted::<Amqp>().await;
}

#[tokio::test]
async fn a_lock_over_https_that_ends_before_its_message_is_settled_is_counted() {
    a_lock_that_ends_before_its_message_is_settled_is_counted::<Http>().await;
}

#[tokio::test]
async fn a_trace_travels_by_its_standard_names_and_by_that_of_older_azure_clients() {
    let street = Street::<Amqp>::with(&entities(false)).await;
    let publisher = street.publisher(street.broker());
    let correlation = Correlation::new("request-1").in_trace(CALLER).with_trace_state("shop=42");
    correlation.scope(publish(&street.from.pool, &Noted::new("1"))).await;
    let mut receiver = street.broker().receiver(&Source::new("events", "audit")).await.unwrap().unwrap();
    let message = receive(&mut receiver).await.message;
    publisher.stop().await.unwrap();
    let property = |name: &str| message.properties.get(name).map(String::as_str);
    assert!(property("traceparent").is_some_and(|parent| parent.contains(TRACE)), "{message:?}");
    assert_eq!(property("Diagnostic-Id"), property("traceparent"));
    assert_eq!(property("tracestate"), Some("shop=42"));
    assert_eq!(message.delivery_count, 1);
}

#[tokio::test]
async fn what_an_older_azure_client_has_sent_is_handled_in_its_trace() {
    let traces = Traces::listen();
    let emulator = Emulator::start_with(&entities(false), &["--no-auth"]);
    let street = Street::<Http>::before(emulator).await;
    let headers = format!(
        "BrokerProperties: {{\"Label\":\"test.noted\",\"MessageId\":\"1\"}}\r\nDiagnostic-Id: \"{CALLER}\"\r\n"
    );
    let body = br#"{"text":"1","session":null}"#;
    let answer = street.emulator.ask("POST", "/events/messages", &headers, body).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let subscriber = street.subscriber(street.broker());
    let processed = traces.one("process events").await;
    let received = traces.one("receive events").await;
    subscriber.stop().await.unwrap();
    assert_eq!(processed.span_context.trace_id().to_string(), TRACE);
    assert_eq!(processed.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(attribute(&processed, "messaging.system"), "servicebus");
    let link = received.links.iter().next().expect("it is linked, too");
    assert_eq!(link.span_context.span_id(), processed.parent_span_id);
    assert_eq!(said(&link.attributes, "messaging.servicebus.message.delivery_count"), "1");
    let enqueued: u64 = said(&link.attributes, "messaging.servicebus.message.enqueued_time").parse().unwrap();
    assert!(enqueued > 1_600_000_000, "{enqueued}");
}
