#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(session = lines)]
struct OrderPlaced {
    lines: Vec<u8>,
}

fn main() {}
