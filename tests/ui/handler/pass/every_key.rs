#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

mod names {
    pub const BILLING: &str = concat!("bill", "ing");
}

#[event_handler(subscription = names::BILLING, retry(attempts = 5, initial = "250ms", max = "5m", multiplier = 3, jitter = 0.1), batch = 50, timeout = "1h", unordered, crate = distributed_events)]
pub(crate) async fn charge(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    Ok(())
}

fn register(builder: distributed_events::BusBuilder<Sqlite>) -> distributed_events::BusBuilder<Sqlite> {
    builder.handlers(distributed_events::handlers![charge])
}

fn main() {}
