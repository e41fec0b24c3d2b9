//! For tests of services: [`TestBus`] runs one while nothing goes wrong, and [`simulate`] while everything does. Neither
//! sleeps: the time is simulated.

#[cfg(feature = "sqlite")]
mod bus;
#[cfg(feature = "sqlite")]
mod link;
#[cfg(feature = "sqlite")]
mod namespace;
#[cfg(feature = "sqlite")]
mod quiet;
#[cfg(feature = "sqlite")]
mod seeds;
#[cfg(feature = "sqlite")]
mod still;
#[cfg(feature = "sqlite")]
mod troubles;
#[cfg(feature = "sqlite")]
mod world;

pub use crate::chance::seeded::Seeded;
#[cfg(feature = "sqlite")]
pub use bus::TestBus;
#[cfg(feature = "sqlite")]
pub use seeds::simulate;
#[cfg(feature = "sqlite")]
pub use world::{SimulationError, World};
