#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[derive(Clone)]
struct Config;

mod mine {
    pub struct State<T>(pub T);
}

#[event_handler(subscription = "billing")]
async fn charge(order: OrderPlaced, config: mine::State<Config>) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {}
