//! The dashboard's router, asked over a socket as browsers and programs ask.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the failed test")]

mod changing;
mod client;
mod coming_in;
mod looking;
mod payloads;
#[path = "../cli/rows.rs"]
#[allow(dead_code, reason = "the command line's tests need more kinds of rows")]
mod rows;
