//! Events on their way out: into the outbox table by [`publish`], out of it to the broker by [`relay`].
//!
//! Nothing here knows an event's type.

mod leader;
mod plan;
mod send;
pub mod settings;
pub mod publish;
pub mod relay;
