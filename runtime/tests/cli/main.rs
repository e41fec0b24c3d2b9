//! The binary, run as its users run it, on SQLite files.

mod configuration;
mod database;
mod operating;
mod program;
mod resending;
mod rows;
