//! The model, through its only door: inputs with their times.

#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

mod administration;
mod oracle;
mod properties;
mod queues;
mod sessions;
mod timing;
mod topics;
mod world;
