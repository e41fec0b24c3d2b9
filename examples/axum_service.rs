//! An axum service that publishes in its requests' transactions and stops in order: first no new requests, then the bus,
//! which finishes what is under way and gives its leases back.
//!
//!     cargo run --example axum_service --features axum
//!     curl -X POST http://127.0.0.1:3000/orders/7

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use distributed_events::{
    DistributedEvent, EventBus, EventId, HandlerError, LocalBroker, event_handler, shutdown_signal,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::watch;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", session = order_id)]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = "shipping")]
async fn ship(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO parcels (order_id) VALUES (?)").bind(order.order_id).execute(&mut **tx).await?;
    println!("order {} is shipped", order.order_id);
    Ok(())
}

#[derive(Clone)]
struct App {
    pool: SqlitePool,
    bus: EventBus<Sqlite>,
}

async fn place(
    State(app): State<App>,
    Path(order_id): Path<i64>,
) -> Result<Json<EventId>, (StatusCode, String)> {
    let failed = |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let mut tx = app.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| failed(&error))?;
    sqlx::query("INSERT INTO orders (order_id) VALUES (?)")
        .bind(order_id)
        .execute(&mut *tx)
        .await
        .map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
    let id = OrderPlaced { order_id }.publish(&mut tx).await.map_err(|error| failed(&error))?;
    app.bus.commit(tx).await.map_err(|error| failed(&error))?;
    Ok(Json(id))
}

async fn create_tables(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    for sql in [
        "CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS parcels (order_id INTEGER PRIMARY KEY)",
    ] {
        sqlx::query(sql).execute(pool).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = SqliteConnectOptions::new()
        .filename("axum-service.db")
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    create_tables(&pool).await?;
    EventBus::migrate(&pool).await?;
    let bus = EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler::<ship>().build()?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app =
        Router::new().route("/orders/{order_id}", post(place)).with_state(App { pool, bus: bus.clone() });

    let (served, all_served) = watch::channel(false);
    let server = async {
        let result = axum::serve(listener, app).with_graceful_shutdown(shutdown_signal()).await;
        served.send_replace(true);
        result
    };
    let mut all_served = all_served;
    let events = bus.run_until(async move {
        let _gone = all_served.wait_for(|served| *served).await;
    });
    let (server, events) = tokio::join!(server, events);
    server?;
    events?;
    println!("stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn an_order_is_taken_once_and_shipped() {
        TestBus::run(
            |bus| bus.handler::<ship>(),
            async |bus| {
                create_tables(bus.pool()).await?;
                let app = App { pool: bus.pool().clone(), bus: bus.event_bus().clone() };
                assert!(place(State(app.clone()), Path(7)).await.is_ok());
                let again = place(State(app), Path(7)).await;
                assert!(again.is_err_and(|(status, _)| status == StatusCode::CONFLICT));

                bus.settled().await?;
                bus.assert_published_count::<OrderPlaced>(1).await?;
                let parcels: Vec<i64> =
                    sqlx::query_scalar("SELECT order_id FROM parcels").fetch_all(bus.pool()).await?;
                assert_eq!(parcels, [7]);
                Ok(())
            },
        );
    }
}
