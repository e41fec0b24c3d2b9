//! The HTTP door over real sockets: what a client sees, and nothing else.

#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

mod bad_input;
mod client;
mod doors;
mod management;
mod messages;
