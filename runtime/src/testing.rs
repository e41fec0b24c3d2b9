//! For tests of services.
//!
//! [`simulate`] runs a service's own handlers through troubles: see there.

#[cfg(feature = "sqlite")]
mod link;
#[cfg(feature = "sqlite")]
mod namespace;
#[cfg(feature = "sqlite")]
mod seeds;
#[cfg(feature = "sqlite")]
mod still;
#[cfg(feature = "sqlite")]
mod world;

pub use crate::chance::seeded::Seeded;
#[cfg(feature = "sqlite")]
pub use seeds::simulate;
#[cfg(feature = "sqlite")]
pub use world::{SimulationError, World};
