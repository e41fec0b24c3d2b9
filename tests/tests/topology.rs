//! Topologies: what a bus needs, created and checked at the emulator through its management API.

#[path = "topology/creating.rs"]
mod creating;
#[path = "topology/derived.rs"]
mod derived;
#[path = "topology/door.rs"]
mod door;
#[path = "topology/drifting.rs"]
mod drifting;
#[path = "topology/managing.rs"]
mod managing;
#[path = "topology/starting.rs"]
mod starting;

use distributed_events::topology::{Takes, Topology};
use distributed_events::{DistributedEvent, ServiceBus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tests::emulator::Emulator;

/// An event that nobody here handles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ignored;

impl DistributedEvent for Ignored {
    const NAME: &'static str = "test.ignored";
}

/// An emulator without entities.
pub fn empty() -> Emulator {
    with(&json!([]))
}

/// An emulator with these topics.
pub fn with(topics: &Value) -> Emulator {
    Emulator::start(&json!({ "Name": "sbemulatorns", "Queues": [], "Topics": topics }))
}

/// A broker that manages the emulator.
pub fn broker(emulator: &Emulator) -> ServiceBus {
    at(&emulator.connection_string(), &format!("http://{}", emulator.http()))
}

pub fn at(connection_string: &str, management: &str) -> ServiceBus {
    ServiceBus::from_connection_string(connection_string).unwrap().management_endpoint(management).unwrap()
}

pub fn events(names: &[&str]) -> Takes {
    Takes::Events(names.iter().map(|&name| name.to_owned()).collect())
}

/// A subscription `billing` on a topic `orders` for events `placed` and `paid`.
pub fn billing() -> Topology {
    let mut topology = Topology::new("service-bus:localhost", ["default"]);
    topology.subscribe("orders", "billing", events(&["placed", "paid"]), true);
    topology
}

/// What a list of things says, in order.
pub fn shown(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}
