//! Ordering and billing, two processes each, over either broker and every database, while everything that can fail does:
//! processes, servers and the wire. Afterwards a checker proves from the two services' own books what the library promises.
//!
//! `events`, `load`, `ordering`, `billing` and `service` are the services; `faults` is what happens to them, by a seed;
//! `ground`, `crew` and `run` are where and how; `books` and `checker` say what came of it.

pub mod chance;
pub mod events;
pub mod load;
pub mod ordering;
pub mod billing;
pub mod service;
pub mod faults;
pub mod ground;
pub mod crew;
pub mod wires;
pub mod run;
pub mod points;
pub mod trouble;
pub mod books;
pub mod checker;
pub mod cases;
pub mod soak;
