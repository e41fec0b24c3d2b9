//! For tests of services: [`TestBus`] runs one, or one handler of it, while nothing goes wrong, and [`simulate`] while
//! everything does. Neither sleeps: the time is simulated. [`manual::testing`](crate::manual::testing) shows how.

#[cfg(feature = "sqlite")]
mod asserting;
#[cfg(feature = "sqlite")]
mod bus;
#[cfg(feature = "sqlite")]
mod handling;
#[cfg(feature = "sqlite")]
mod link;
#[cfg(feature = "sqlite")]
mod namespace;
#[cfg(feature = "sqlite")]
mod outcome;
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
pub use asserting::Asserting;
#[cfg(feature = "sqlite")]
pub use bus::TestBus;
#[cfg(feature = "sqlite")]
pub use handling::Handling;
#[cfg(feature = "sqlite")]
pub use outcome::Outcome;
#[cfg(feature = "sqlite")]
pub use seeds::simulate;
#[cfg(feature = "sqlite")]
pub use world::{SimulationError, World};
