#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = 5)]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
