//! Events on their way in: from the broker to the inbox table by [`relay`], from there to [`handler`]s by [`processor`].

pub(crate) mod bind;
mod caution;
mod cloud_events;
#[cfg(feature = "macros")]
pub mod discovery;
pub mod handler;
mod guarded;
mod holding;
pub mod incoming;
#[cfg(all(feature = "testing", feature = "sqlite"))]
pub(crate) mod once;
pub mod processor;
pub mod relay;
pub(crate) mod route;
mod runs;
pub mod settings;
mod shard;
mod unhandled;
mod worker;
