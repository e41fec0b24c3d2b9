#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize)]
#[event(name = "note-written")]
struct NoteWritten<'a> {
    text: &'a str,
}

fn main() {}
