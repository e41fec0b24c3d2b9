//! Running a scenario by many seeds.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;

use super::World;
use crate::chance::seeded::Seeded;

/// The variable that names the one seed to run, with everything that happens in it.
const SEED: &str = "DISTRIBUTED_EVENTS_SEED";

/// How many lines are shown of what happened before a seed failed.
const SHOWN: usize = 100;

/// Runs a scenario once for each seed: a service's own handlers, on SQLite, in a [`World`] where processes are killed and
/// frozen, events come twice, answers are lost, and handlers are slow; and where the scenario says what must hold all the
/// same.
///
/// The seed alone decides what goes wrong and in which order things happen, so that a seed that fails does so again. The time
/// is simulated: a minute of backoffs and lost leases takes a second or less. A handler that waits for tokio's time is waited
/// for, at the cost of some real seconds (three to six) each time. What else it waits for has to be there at once: for an answer over the net
/// simulated time doesn't wait, so give the handler something that stands for it. `SystemTime::now()` and SQLite's own clock
/// stay real; the simulated one begins with them.
///
/// What it does not try: SQLite's own errors in the midst of a handler, a database that stays locked, dead-letter queues, and
/// tasks that a handler spawns (they outlive their killed process here). Delays beyond twenty minutes are for
/// [`TestBus`](super::TestBus).
///
/// ```standalone_crate
/// use distributed_events::testing::simulate;
/// use distributed_events::{DistributedEvent, HandlerError, event_handler};
/// use serde::{Deserialize, Serialize};
/// use sqlx::{Sqlite, Transaction};
///
/// #[derive(DistributedEvent, Serialize, Deserialize)]
/// #[event(name = "ordering.order-placed", topic = "orders", session = customer)]
/// struct OrderPlaced { customer: String, cents: i64 }
///
/// #[event_handler(subscription = "billing")]
/// async fn charge(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
///     sqlx::query("INSERT INTO charges (customer, cents) VALUES (?, ?)")
///         .bind(order.customer).bind(order.cents).execute(&mut **tx).await?;
///     Ok(())
/// }
///
/// # fn main() {
/// // In a `#[test]`; a hundred seeds or more.
/// simulate(0..3, async |world| {
///     let pool = world.database("billing").await?;
///     sqlx::raw_sql("CREATE TABLE charges (customer TEXT, cents INTEGER)").execute(&pool).await?;
///     world.service(&pool, |bus| bus.handler::<charge>())?;
///     for cents in 1..=10 {
///         world.publish(&OrderPlaced { customer: "acme".to_owned(), cents })?;
///     }
///     world.settle().await?;
///     let sum: i64 = sqlx::query_scalar("SELECT sum(cents) FROM charges").fetch_one(&pool).await?;
///     assert_eq!(sum, 55);
///     Ok(())
/// });
/// # }
/// ```
///
/// With the variable `DISTRIBUTED_EVENTS_SEED` only that seed is run, and everything that happens is printed.
///
/// # Panics
/// When a scenario panics or returns an error: the seed, and what happened before, are printed. Inside of a runtime of
/// tokio: it makes one for each seed, so call it from a plain `#[test]`.
#[expect(clippy::needless_pass_by_value, reason = "a closure is written where it is given away")]
pub fn simulate<S>(seeds: impl IntoIterator<Item = u64>, scenario: S)
where
    S: AsyncFn(&mut World) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    let one = |seed, shown| {
        if let Some(panic) = in_a_world(seed, shown, &scenario) {
            eprintln!(
                "the simulation has failed with seed {seed}; to see all of it: {SEED}={seed}, and this test alone"
            );
            resume_unwind(panic);
        }
    };
    match std::env::var(SEED) {
        Ok(text) => {
            let seed = text.parse();
            one(seed.unwrap_or_else(|_| panic!("{SEED} is to be a number, and is `{text}`")), usize::MAX);
        }
        Err(_) => seeds.into_iter().for_each(|seed| one(seed, 0)),
    }
}

/// Runs a scenario by a seed and shows so many lines of what happened, or some if it fails; then it returns with what.
pub(super) fn in_a_world<S>(seed: u64, shown: usize, scenario: S) -> Option<Box<dyn Any + Send>>
where
    S: AsyncFnOnce(&mut World) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    assert!(
        tokio::runtime::Handle::try_current().is_err(),
        "this makes a runtime of its own, in which time is simulated: call it from a plain `#[test]`, not from `#[tokio::test]`"
    );
    let _seeded = Seeded::by(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("there is no runtime for a simulation: {error}"));
    let (ended, lines) = runtime.block_on(async {
        let mut world = match World::new(seed).await {
            Ok(world) => world,
            Err(error) => return (Ok(Err(error.into())), Vec::new()),
        };
        let ended = AssertUnwindSafe(scenario(&mut world)).catch_unwind().await;
        (ended, world.trace())
    });
    let shown = if matches!(ended, Ok(Ok(()))) { shown } else { shown.max(SHOWN) };
    for line in &lines[lines.len().saturating_sub(shown)..] {
        eprintln!("{line}");
    }
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            eprintln!("{error}");
            Some(Box::new(error.to_string()))
        }
        Err(panic) => Some(panic),
    }
}
