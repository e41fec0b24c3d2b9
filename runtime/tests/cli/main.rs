//! The binary, run as its users run it, on SQLite files.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the failed test")]

mod configuration;
#[cfg(feature = "dashboard")]
mod dashboard;
mod database;
mod deployment;
#[cfg(feature = "service-bus")]
mod emulator;
mod help;
#[cfg(feature = "cli-entra")]
mod identity;
mod mistakes;
mod operating;
mod program;
#[cfg(feature = "service-bus")]
mod relay;
mod resending;
mod rows;
