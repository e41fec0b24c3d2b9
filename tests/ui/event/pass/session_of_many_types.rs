#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(session = key)]
struct WithOption {
    key: Option<u64>,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(session = r#type)]
struct WithRawName {
    r#type: uuid::Uuid,
}

fn main() {
    assert_eq!(WithOption { key: None }.session_id(), None);
    assert_eq!(WithOption { key: Some(5) }.session_id().as_deref(), Some("5"));
    assert_eq!(WithRawName { r#type: uuid::Uuid::nil() }.session_id().unwrap().len(), 36);
}
