//! Deterministic simulation: the library's own loops, two instances each of two services, over a model of a database and
//! the emulator's model of Service Bus, in simulated time. A seed decides every delay and every trouble: processes killed
//! and frozen, servers and brokers away, calls cut off before and after they took effect, messages delivered twice, settles
//! and hints lost, locks that run out, clocks that jump, commits that come late, handlers that are slow.
//!
//! The same seed gives the same run, with a trace of everything that happened: `cargo run -p simulation -- SEED`.

pub mod database;
mod link;
pub mod namespace;
pub mod process;
pub mod services;
pub mod trace;
pub mod world;

pub use world::Outcome;

/// Runs one seed, with or without a trace.
///
/// # Panics
/// When the world itself is broken.
pub fn run(seed: u64, traced: bool) -> Outcome {
    let _seeded = distributed_events::testing::Seeded::by(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(world::run(seed, traced))
}
