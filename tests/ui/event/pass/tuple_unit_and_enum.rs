#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(session = 0)]
struct Placed(String, i64);

#[derive(DistributedEvent, Serialize, Deserialize)]
struct DayClosed;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "order-changed", session = self::order_of)]
enum OrderChanged {
    Placed { order_id: i64 },
    Paid(i64),
}

fn order_of(event: &OrderChanged) -> Option<String> {
    match event {
        OrderChanged::Placed { order_id } | OrderChanged::Paid(order_id) => Some(order_id.to_string()),
    }
}

fn main() {
    assert_eq!(Placed("a".to_owned(), 1).session_id().as_deref(), Some("a"));
    assert!(!DayClosed::HAS_SESSION && DayClosed.session_id().is_none());
    assert_eq!(OrderChanged::Paid(7).session_id().as_deref(), Some("7"));
    assert_eq!(OrderChanged::Placed { order_id: 8 }.session_id().as_deref(), Some("8"));
    assert_eq!((Placed::NAME, DayClosed::NAME, OrderChanged::NAME), ("Placed", "DayClosed", "order-changed"));
}
