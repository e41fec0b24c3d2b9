#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "order-placed")]
#[event(topic = "orders")]
struct OrderPlaced;

fn main() {}
