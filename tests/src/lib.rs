//! What the tests of distributed-events share: conditions to await, services under test, the conformance suites.

pub mod conformance;
pub mod eventually;
pub mod service;
