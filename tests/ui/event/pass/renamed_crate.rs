extern crate distributed_events as my_events;

use my_events::DistributedEvent;
use serde::{Deserialize, Serialize};

mod nested {
    pub use distributed_events;
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(crate = my_events)]
struct ByPath;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(crate = "crate::nested::distributed_events")]
struct ByText;

fn main() {
    assert_eq!((ByPath::NAME, ByText::NAME), ("ByPath", "ByText"));
}
