//! A development emulator of Azure Service Bus.
//!
//! One pure [`model`] holds everything that Service Bus promises: it has no sockets, no clock and no randomness. The
//! [`host`] gives it a clock, a [`journal`] and somebody to wake; the doors (AMQP, HTTP) only translate.

pub mod amqp;
pub mod config;
pub mod host;
pub mod http;
pub mod journal;
pub mod model;
pub mod sas;
