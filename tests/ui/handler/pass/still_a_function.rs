#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[event_handler(subscription = "billing")]
async fn charge(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

fn main() {
    // As a unit test would call it.
    let future = charge(OrderPlaced { order_id: 1 });
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::future::Future::poll(future.as_mut(), &mut context).is_ready());
}
