//! The figures.

use std::time::Duration;

use distributed_events::LocalBroker;
use distributed_events::broker::SendError;
use distributed_events::telemetry::names::{METRICS, MetricKind};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick, quick_inbox, quick_outbox};

use super::seen::Figures;
use super::{BILLING, Charged, Placed, charge, placed, publish};

#[tokio::test]
async fn what_is_sent_received_and_handled_is_counted_and_timed() {
    let (figures, database, broker) = (Figures::new(), Database::new().await, MemoryBroker::new());
    let bus = quick(&database.pool)
        .broker(broker.clone())
        .meter(figures.meter())
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .publishes::<Charged>()
        .build()
        .unwrap();
    broker.refuse_next_send(SendError::Unavailable { reason: "away".to_owned(), retry_after: None });
    let running = Running::start(bus.clone());
    publish(&database.pool, &placed(1)).await;
    publish(&database.pool, &Placed { order_id: 2, fails_until: 2 }).await;
    publish(&database.pool, &Placed { order_id: 3, fails_until: 9 }).await;
    eventually(
        "all are dealt with",
        || async { bus.stats() },
        |stats| (stats.processed, stats.dead, stats.sent) == (2, 1, 5),
    )
    .await;

    let event = "distributed_events.event.name=telemetry.placed";
    let billing = "messaging.destination.subscription.name=billing";
    let system = "messaging.system=distributed_events";
    let outcome = |outcome: &str| format!("{event} distributed_events.outcome={outcome} {billing}");
    let (dead, processed, retried) = (outcome("dead"), outcome("processed"), outcome("retried"));
    figures
        .become_so("distributed_events.attempts", &[(&dead, 1.0), (&processed, 2.0), (&retried, 3.0)])
        .await;
    figures
        .become_so("distributed_events.dead", &[(&format!("distributed_events.table=inbox {billing}"), 1.0)])
        .await;
    figures.become_so("distributed_events.end_to_end.latency", &[(&format!("{event} {billing}"), 2.0)]).await;
    let process = format!(
        "{event} messaging.destination.name=orders {billing} messaging.operation.name=process {system}"
    );
    let failed = format!(
        "{event} error.type=handler messaging.destination.name=orders {billing} messaging.operation.name=process {system}"
    );
    let mut durations = [(failed.as_str(), 4.0), (process.as_str(), 2.0)];
    durations.sort_by_key(|(attributes, _)| *attributes);
    figures.become_so("messaging.process.duration", &durations).await;
    let on =
        |topic: &str| format!("messaging.destination.name={topic} messaging.operation.name=send {system}");
    let (charges, orders) = (on("charges"), on("orders"));
    figures.become_so("messaging.client.sent.messages", &[(&charges, 2.0), (&orders, 3.0)]).await;
    let lag = |topic: &str| format!("distributed_events.lane=default messaging.destination.name={topic}");
    figures
        .become_so("distributed_events.publish.lag", &[(&lag("charges"), 2.0), (&lag("orders"), 3.0)])
        .await;
    let received =
        format!("messaging.destination.name=orders {billing} messaging.operation.name=receive {system}");
    figures.become_so("messaging.client.consumed.messages", &[(&received, 3.0)]).await;
    let operations = figures.of("messaging.client.operation.duration");
    for part in ["error.type=broker_unavailable", "operation.name=receive", "operation.name=settle"] {
        assert!(operations.iter().any(|(attributes, _)| attributes.contains(part)), "{part}: {operations:?}");
    }
    let incidents = figures.of("distributed_events.incidents");
    for (kind, count) in [("broker_unavailable", 1.0), ("event_dead", 1.0), ("handler_failed", 3.0)] {
        let incident = (format!("distributed_events.incident.kind={kind}"), count);
        assert!(incidents.contains(&incident), "{incident:?}: {incidents:?}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn gauges_show_the_tables_of_every_lane_and_subscription_while_somebody_collects() {
    let (figures, database) = (Figures::new(), Database::new().await);
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .lane("urgent", MemoryBroker::new())
        .meter(figures.meter())
        .metrics_every(Duration::from_millis(20))
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .publishes::<Charged>()
        .build()
        .unwrap();
    // In a lane that nobody relays it waits for ever.
    publish(&database.pool, &placed(1)).await;
    sqlx::query("UPDATE outbox SET lane = 'lost', created_at = created_at - 60000")
        .execute(&database.pool)
        .await
        .unwrap();
    let running = Running::start(bus);
    publish(&database.pool, &Placed { order_id: 2, fails_until: 9 }).await;

    let rows =
        |lane: &str, state: &str| format!("distributed_events.lane={lane} distributed_events.state={state}");
    let states = ["default", "lost", "urgent"].map(|lane| [rows(lane, "dead"), rows(lane, "pending")]);
    let states: Vec<_> = states
        .as_flattened()
        .iter()
        .map(|it| (it.as_str(), f64::from(it.ends_with("lost distributed_events.state=pending"))))
        .collect();
    figures.become_so("distributed_events.outbox.rows", &states).await;
    let billing = "messaging.destination.subscription.name=billing";
    let (dead, pending) = (
        format!("distributed_events.state=dead {billing}"),
        format!("distributed_events.state=pending {billing}"),
    );
    figures.become_so("distributed_events.inbox.rows", &[(&dead, 1.0), (&pending, 0.0)]).await;
    figures.become_so("distributed_events.inbox.oldest_pending.age", &[(billing, 0.0)]).await;
    let ages = figures.of("distributed_events.outbox.oldest_pending.age");
    let age =
        |lane: &str| ages.iter().find(|(attributes, _)| attributes.ends_with(lane)).map(|(_, age)| *age);
    assert!(age("lost").is_some_and(|age| (60.0..600.0).contains(&age)), "{ages:?}");
    assert_eq!((age("default"), age("urgent")), (Some(0.0), Some(0.0)), "{ages:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopped_bus_shows_no_figures_of_its_tables() {
    let (figures, database) = (Figures::new(), Database::new().await);
    let every = Duration::from_millis(20);
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .meter(figures.meter())
        .metrics_every(every)
        .build()
        .unwrap();
    let running = Running::start(bus);
    let rows = || async { figures.of("distributed_events.outbox.rows") };
    eventually("they are shown", rows, |rows| !rows.is_empty()).await;
    running.stop().await.unwrap();
    eventually("better none than old ones", rows, |rows| rows.is_empty()).await;
}

#[test]
fn metrics_have_names_of_their_own_units_and_descriptions() {
    for (place, metric) in METRICS.iter().enumerate() {
        assert!(METRICS[place + 1..].iter().all(|other| other.name != metric.name), "{}", metric.name);
        let convention = metric.name.starts_with("messaging.");
        assert!(convention || metric.name.starts_with("distributed_events."), "{}", metric.name);
        assert!(!metric.description.is_empty() && !metric.description.starts_with(' '), "{metric:?}");
        assert!(metric.kind != MetricKind::Histogram || metric.unit == "s", "{metric:?}");
    }
}

#[tokio::test]
async fn leases_that_go_to_another_instance_are_counted() {
    let (figures, database) = (Figures::new(), Database::new().await);
    let lease = Duration::from_secs(4);
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .outbox(quick_outbox().lease_time(lease))
        .inbox(quick_inbox().lease_time(lease).handler_timeout(Duration::from_millis(500)))
        .meter(figures.meter())
        .on(BILLING, |event: Placed, tx, context| Box::pin(charge(event, tx, context)))
        .publishes::<Charged>()
        .build()
        .unwrap();
    let running = Running::start(bus);
    let held = "SELECT count(*) FROM distributed_events_leases WHERE owner IS NOT NULL";
    eventually("it holds everything", || database.number(held), |held| *held == 65).await;
    assert_eq!(running.bus.stats().leases_lost, 0);
    let steal = "UPDATE distributed_events_leases SET owner = randomblob(16), epoch = epoch + 1";
    sqlx::query(steal).execute(&database.pool).await.unwrap();
    let lost = || async { running.bus.stats().leases_lost };
    eventually("all are lost", lost, |lost| *lost == 65).await;
    let by_table = [("distributed_events.table=inbox", 64.0), ("distributed_events.table=outbox", 1.0)];
    figures.become_so("distributed_events.leases.lost", &by_table).await;
    running.stop().await.unwrap();
}
