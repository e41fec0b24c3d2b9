#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

macro_rules! event {
    ($name:ident, $wire:literal) => {
        #[derive(DistributedEvent, Serialize, Deserialize)]
        #[event(name = $wire, session = id)]
        struct $name {
            id: i64,
        }
    };
}

event!(Placed, "placed");

fn main() {
    #[derive(DistributedEvent, Serialize, Deserialize)]
    struct Local;
    assert_eq!((Placed::NAME, Local::NAME), ("placed", "Local"));
    assert_eq!(Placed { id: 1 }.session_id().as_deref(), Some("1"));
}
