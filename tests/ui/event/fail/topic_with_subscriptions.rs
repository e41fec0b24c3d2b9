#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(topic = "shop/Subscriptions/orders")]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
