#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = "billing", batch = 0)]
async fn charge(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
