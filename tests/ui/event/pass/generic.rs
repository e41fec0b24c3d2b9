#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "changed")]
struct Changed<T: Clone, const N: usize>
where
    T: PartialEq,
{
    before: T,
    after: T,
}

fn event<E: DistributedEvent>() -> &'static str {
    E::NAME
}

fn main() {
    assert_eq!(event::<Changed<String, 3>>(), "changed");
}
