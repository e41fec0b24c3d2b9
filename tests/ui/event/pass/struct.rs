#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id, version = 3, lane = "critical", max_size = 1_000_000, alias = "order.placed", alias = "OrderPlaced")]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
