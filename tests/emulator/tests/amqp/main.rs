//! The AMQP door over real sockets, frame by frame: what Microsoft's SDKs can't show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a failed test")]

mod binary;
mod client;
mod emulator;
mod greeting;
mod hostile;
mod limits;
mod links;
mod management;
mod receiving;
mod sending;
mod sessions;
mod settling;
mod tokens;
mod values;
