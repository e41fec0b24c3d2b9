#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = ".billing")]
async fn charge(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
