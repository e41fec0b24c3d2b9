#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

async fn charge(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

struct Charge;

fn register(builder: distributed_events::BusBuilder<Sqlite>) -> distributed_events::BusBuilder<Sqlite> {
    builder.handler::<Charge>()
}

fn main() {}
