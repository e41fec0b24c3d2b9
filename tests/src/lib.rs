//! What the tests of distributed-events share: conditions to await, services under test, the conformance suites.

pub mod broker_conformance;
pub mod conformance;
pub mod emulator;
pub mod eventually;
pub mod fixtures;
pub mod history;
pub mod instances;
pub mod load;
pub mod memory_broker;
pub mod outages;
pub mod private_server;
pub mod programs;
pub mod proxy;
pub mod rights;
pub mod rules;
pub mod secrets;
pub mod service;
pub mod street;
pub mod two_services;

/// Whether `./tests/run --long` asks for everything at its full size.
pub fn is_long() -> bool {
    std::env::var_os("DISTRIBUTED_EVENTS_LONG").is_some()
}

/// The README's sample compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
