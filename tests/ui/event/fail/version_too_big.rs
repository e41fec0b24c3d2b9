#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(version = 5_000_000_000)]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
