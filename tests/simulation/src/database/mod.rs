//! A database in memory with the manners of PostgreSQL at READ COMMITTED: transactions that see what is committed, rows
//! locked by whoever has changed them, sequence numbers that are given out before they are committed, transactions that
//! outlive their client. Everything takes its time, and can be cut off before it happens or after.

mod business;
mod driver;
mod leases;
mod port;
mod rows;
mod server;
mod storage;
mod table;

pub use driver::{ModelConnection, ModelDatabase, ModelOptions};
pub use rows::{Business, State};
pub use server::Server;
