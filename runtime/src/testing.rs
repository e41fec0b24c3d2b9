//! For tests.

pub use crate::chance::seeded::Seeded;
