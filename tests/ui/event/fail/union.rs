#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent)]
union Either {
    left: u32,
    right: f32,
}

fn main() {}
