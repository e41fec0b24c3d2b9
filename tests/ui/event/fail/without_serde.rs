#![allow(unused)]

use distributed_events::DistributedEvent;

#[derive(DistributedEvent)]
#[event(name = "order-placed")]
struct OrderPlaced {
    order_id: i64,
}

fn main() {}
