//! The binary, run as its users run it, on SQLite files.

mod configuration;
mod database;
#[cfg(feature = "service-bus")]
mod emulator;
mod help;
mod operating;
mod program;
#[cfg(feature = "service-bus")]
mod relay;
mod resending;
mod rows;
