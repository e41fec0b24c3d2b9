//! Probes for Kubernetes and its like: `/livez` asks for a restart, `/readyz` for traffic, and both say why in JSON.
//!
//!     cargo run --example health_probes --features axum
//!     curl -i http://127.0.0.1:3000/readyz
//!
//! Keep them off the public network: reasons repeat what the database and the broker have said.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use distributed_events::{
    DistributedEvent, EventBus, HandlerError, Health, HealthThresholds, LocalBroker, event_handler,
    shutdown_signal,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Sqlite, SqlitePool, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed")]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = "shipping")]
async fn ship(_order: OrderPlaced, _tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    Ok(())
}

/// Live as long as its loops come round: trouble with the database or a broker is waited out, and no restart mends it.
async fn livez(State(bus): State<EventBus<Sqlite>>) -> (StatusCode, Json<Health>) {
    let health = bus.health().await;
    (status(health.live), Json(health))
}

/// Ready while its database answers: what is published then is kept, whatever the broker does.
async fn readyz(State(bus): State<EventBus<Sqlite>>) -> (StatusCode, Json<Health>) {
    let health = bus.health().await;
    (status(health.ready), Json(health))
}

fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = SqliteConnectOptions::new()
        .filename("health-probes.db")
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    EventBus::migrate(&pool).await?;
    let bus = EventBus::builder(pool)
        .broker(LocalBroker::new())
        .handler::<ship>()
        .health_thresholds(HealthThresholds::default().oldest_pending(Duration::from_secs(60)))
        .build()?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let probes =
        Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(bus.clone());
    // The probes answer before the bus is ready, and until it has stopped.
    tokio::select! {
        served = async { axum::serve(listener, probes).await } => served?,
        ran = bus.run_until(shutdown_signal()) => ran?,
    }
    println!("stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn a_bus_that_does_not_run_is_live_and_not_ready() {
        TestBus::run(
            |bus| bus.handler::<ship>(),
            async |bus| {
                let (live, _) = livez(State(bus.event_bus().clone())).await;
                assert_eq!(live, StatusCode::OK);
                let (ready, Json(health)) = readyz(State(bus.event_bus().clone())).await;
                assert_eq!(ready, StatusCode::SERVICE_UNAVAILABLE);
                assert!(!health.degraded.is_empty(), "it says why");
                Ok(())
            },
        );
    }

    #[test]
    fn an_order_is_shipped() {
        TestBus::run(
            |bus| bus.handler::<ship>(),
            async |bus| {
                bus.handle::<ship>(&OrderPlaced { order_id: 7 }).await?.assert_processed();
                Ok(())
            },
        );
    }
}
