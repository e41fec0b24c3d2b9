#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "order.placed")]
struct OrderPlacedV1;

impl From<OrderPlacedV1> for OrderPlaced {
    fn from(_: OrderPlacedV1) -> Self {
        OrderPlaced { order_id: 0 }
    }
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "order-placed", version = 2, upcast_from = OrderPlacedV1)]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
