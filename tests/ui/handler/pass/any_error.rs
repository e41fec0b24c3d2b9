#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = "a")]
async fn text(_: OrderPlaced) -> Result<(), &'static str> {
    Err("no")
}

#[event_handler(subscription = "a")]
async fn string(_: OrderPlaced) -> Result<(), String> {
    Ok(())
}

#[event_handler(subscription = "a")]
async fn boxed(_: OrderPlaced) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    "x".parse::<i64>()?;
    Ok(())
}

type Answer = Result<(), sqlx::Error>;

#[event_handler(subscription = "a")]
async fn alias(_: OrderPlaced) -> Answer {
    Ok(())
}

#[event_handler(subscription = "billing")]
async fn charge(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

fn register(builder: distributed_events::BusBuilder<Sqlite>) -> distributed_events::BusBuilder<Sqlite> {
    builder.handlers(distributed_events::handlers![text, string, boxed, alias])
}

fn main() {}
