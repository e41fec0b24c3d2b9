#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "moved")]
struct MovedV1 {
    to: String,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "moved", version = 2, upcast_from = MovedV1)]
struct MovedV2 {
    street: String,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "moved", version = 4, upcast_from = MovedV2)]
struct Moved {
    street: String,
    town: String,
}

impl From<MovedV1> for MovedV2 {
    fn from(old: MovedV1) -> Self {
        Self { street: old.to }
    }
}

impl From<MovedV2> for Moved {
    fn from(old: MovedV2) -> Self {
        Self { street: old.street, town: "unknown".to_owned() }
    }
}

fn main() {
    assert_eq!(Moved::OLDEST_VERSION, 1);
    assert_eq!(Moved::decode(1, br#"{"to": "High Street"}"#).unwrap().street, "High Street");
    assert_eq!(Moved::decode(2, br#"{"street": "Low Street"}"#).unwrap().town, "unknown");
    assert_eq!(Moved::decode(4, br#"{"street": "a", "town": "b"}"#).unwrap().town, "b");
    let error = Moved::decode(3, b"{}").err().unwrap().to_string();
    assert!(error.contains("versions 1 to 4"), "{error}");
}
