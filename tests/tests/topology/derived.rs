//! What a bus needs, as it is told by its handlers and events.

use distributed_events::topology::{Filter, Topology};
use distributed_events::{BusError, DistributedEvent, HandlerSettings, LocalBroker, ServiceBus};
use serde::{Deserialize, Serialize};
use tests::broker_conformance::{Noted, noting};
use tests::service::{Database, quick};

use crate::Ignored;

#[derive(Serialize, Deserialize)]
struct Placed;

impl DistributedEvent for Placed {
    const NAME: &'static str = "ordering.order-placed";
    const TOPIC: Option<&'static str> = Some("orders");
    const ALIASES: &'static [&'static str] = &["Acme.Ordering.OrderPlacedEto"];
}

#[derive(Serialize, Deserialize)]
struct Alarmed;

impl DistributedEvent for Alarmed {
    const NAME: &'static str = "alarms.alarmed";
    const TOPIC: Option<&'static str> = Some("alarms");
    const LANE: &'static str = "critical";
}

#[derive(Serialize, Deserialize)]
struct Misplaced;

impl DistributedEvent for Misplaced {
    const NAME: &'static str = "ordering.misplaced";
    const TOPIC: Option<&'static str> = Some("order events");
}

fn namespace(name: &str) -> ServiceBus {
    let text =
        format!("Endpoint=sb://{name}.servicebus.windows.net;SharedAccessKeyName=k;SharedAccessKey=canary");
    ServiceBus::from_connection_string(&text).unwrap()
}

fn names(topology: &Topology) -> Vec<&str> {
    topology.topics.iter().map(|topic| topic.name.as_str()).collect()
}

#[tokio::test]
async fn each_broker_has_a_topology_of_what_travels_there() {
    let database = Database::new().await;
    let bus = noting(quick(&database.pool), "audit", |event: &Noted, _| event.text.clone());
    let bus = noting(bus, "billing", |_: &Placed, _| String::new())
        .broker(namespace("shop"))
        .lane("critical", namespace("alarms"))
        .lane("spare", namespace("shop"))
        .publishes::<Alarmed>()
        .build()
        .unwrap();
    let [shop, alarms] = <[Topology; 2]>::try_from(bus.topology()).unwrap();

    assert_eq!(shop.broker, "service-bus:shop.servicebus.windows.net");
    assert_eq!(shop.lanes, ["default", "spare"], "two lanes, one namespace");
    assert_eq!(names(&shop), ["events", "orders"]);
    let audit = &shop.topics[0].subscriptions[0];
    assert_eq!((audit.name.as_str(), audit.settings.sessions), ("audit", true));
    let billing = &shop.topics[1].subscriptions[0];
    assert!(!billing.settings.sessions, "its event has no session");
    let filters: Vec<_> = billing.rules.iter().map(|rule| rule.filter.clone()).collect();
    let subject = |name: &str| Filter::Subject(name.to_owned());
    assert_eq!(filters, [subject("Acme.Ordering.OrderPlacedEto"), subject("ordering.order-placed")]);

    assert_eq!(alarms.lanes, ["critical"]);
    assert_eq!(names(&alarms), ["alarms", "events"], "the default topic always counts");
    assert!(alarms.topics.iter().all(|topic| topic.subscriptions.is_empty()));
}

#[tokio::test]
async fn handlers_can_do_without_order_and_subscriptions_can_take_everything() {
    let database = Database::new().await;
    let unordered = HandlerSettings::new("audit").unordered();
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .default_topic("everything")
        .on(unordered, |_: Noted, _, _| Box::pin(async { Ok(()) }))
        .ignore_unknown_events("audit")
        .build()
        .unwrap();
    let [topology] = <[Topology; 1]>::try_from(bus.topology()).unwrap();
    assert_eq!(names(&topology), ["everything"]);
    let audit = &topology.topics[0].subscriptions[0];
    assert!(!audit.settings.sessions);
    assert_eq!((audit.rules.len(), &audit.rules[0].filter), (1, &Filter::Everything));
}

#[tokio::test]
async fn every_name_that_service_bus_does_not_take_is_told_at_once() {
    let database = Database::new().await;
    let bus = noting(quick(&database.pool), "billing?", |_: &Ignored, _| String::new());
    let built = noting(bus, "Billing!", |_: &Ignored, _| String::new())
        .broker(LocalBroker::new())
        .default_topic("Orders/")
        .publishes::<Misplaced>()
        .build();
    let Err(BusError::Configuration { problems }) = built else { panic!("{built:?}") };
    let problems = problems.join("\n");
    for sentence in [
        "the subscription's name `billing?` has a '?' in it",
        "the subscription's name `Billing!` has a '!' in it",
        "`.default_topic(\"Orders/\")`: the name must begin and end with a letter or a digit",
        "event ordering.misplaced: the topic's name `order events` has a ' ' in it",
    ] {
        assert!(problems.contains(sentence), "{sentence}:\n{problems}");
    }
    assert_eq!(problems.lines().count(), 4, "{problems}");
}

#[tokio::test]
async fn names_that_differ_in_case_alone_are_one_to_service_bus() {
    let database = Database::new().await;
    let bus = noting(quick(&database.pool), "billing", |_: &Placed, _| String::new());
    let bus = noting(bus, "Billing", |_: &Placed, _| String::new());
    let built = bus.broker(LocalBroker::new()).default_topic("Orders").build();
    let Err(BusError::Configuration { problems }) = built else { panic!("{built:?}") };
    let problems = problems.join("\n");
    assert!(problems.contains("`Orders`") && problems.contains("`orders`"), "{problems}");
    assert!(problems.contains("`Billing`") && problems.contains("`billing`"), "{problems}");
}
