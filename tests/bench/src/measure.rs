//! The measures, by name; each stands in a module of its own.

mod allocations;
mod compile;
mod databases;
mod drain;
mod end_to_end;
mod flames;
mod growth;
mod ingest;
mod latency;
mod looks;
pub(crate) mod memory;
pub(crate) mod peers;
mod processing;
mod publish;

use std::path::{Path, PathBuf};
use std::time::Instant;

use distributed_events::storage::{PoolSettings, Storage};
use distributed_events::{DistributedEvent, EventBus, Shutdown};
use sqlx::{PgPool, Postgres};

use crate::Result;
use crate::event::OrderPlaced;
use crate::floors;
use crate::report::Report;
use crate::server::{Cell, Server};
use crate::statistics::Pair;

/// The measure that is taken only where it is asked for.
pub(crate) const PEERS: &str = "peers";

/// What there is, in the order in which it is measured.
pub(crate) const MEASURES: &[(&str, &str)] = &[
    ("drain", "from the outbox to a broker that takes no time, or a known one"),
    ("publish", "what an event adds to a transaction"),
    ("ingest", "from a broker that has messages ready into the inbox"),
    ("processing", "from the inbox through a handler"),
    ("latency", "how soon an idle relay and an idle processor see a commit, and what idling costs"),
    ("growth", "what history, garbage and a held snapshot cost"),
    ("end-to-end", "from a publisher's commit to a handler's, through the emulator of Service Bus"),
    ("databases", "the drain and the processing on SQLite and MariaDB"),
    ("memory", "the most that a drain ever holds, by the size of the backlog"),
    ("compile", "what 100 events and 100 handlers of the macros cost the compiler"),
    (PEERS, "drain, processing and latency of other outboxes and job queues in the same run; with --peers"),
];

/// A run: its servers, its size, and what it has found.
#[derive(Debug)]
pub(crate) struct Bench {
    server: Server,
    folder: PathBuf,
    quick: bool,
    rounds: usize,
    /// What was found.
    pub(crate) report: Report,
}

impl Bench {
    /// One on a server.
    pub(crate) fn new(server: Server, folder: &Path, quick: bool, rounds: usize, report: Report) -> Self {
        Self { server, folder: folder.to_owned(), quick, rounds, report }
    }

    /// The machine's floors.
    pub(crate) async fn floors(&mut self, when: &str) -> Result<()> {
        floors::of_machine(&self.server, &self.folder, when, &mut self.report).await
    }

    /// Measures one thing; a failure is reported with the others' results.
    pub(crate) async fn measure(&mut self, name: &str) {
        let begun = Instant::now();
        let measured = match name {
            "drain" => drain::measure(self).await,
            "publish" => publish::measure(self).await,
            "ingest" => ingest::measure(self).await,
            "processing" => processing::measure(self).await,
            "latency" => latency::measure(self).await,
            "growth" => growth::measure(self).await,
            "end-to-end" => end_to_end::measure(self).await,
            "databases" => databases::measure(self).await,
            "memory" => memory::measure(self).await,
            "compile" => compile::measure(self).await,
            PEERS => peers::measure(self).await,
            _ => Err("there is no such measure".into()),
        };
        match measured {
            Ok(()) => println!("({name} took {:.0} s)", begun.elapsed().as_secs_f64()),
            Err(error) => self.report.not_run(name, error),
        }
    }

    /// Counts allocations, and leaves their profiles in a folder.
    pub(crate) async fn allocations(&self, folder: &Path) -> Result<()> {
        allocations::count(self, folder).await
    }

    /// Draws flame graphs into a folder: of the measures, and, where they are among these names, of the peers.
    pub(crate) async fn flame_graphs(&self, folder: &Path, names: &[String]) -> Result<()> {
        let drawing = flames::Drawing::begin(folder).await?;
        if names.iter().any(|name| name != PEERS) {
            flames::draw(self, &drawing).await?;
        }
        if names.iter().any(|name| name == PEERS) {
            peers::draw(self, &drawing).await?;
        }
        Ok(())
    }

    /// Rounds: with `--quick` fewer of what has no target, or takes long.
    fn rounds_of(&self, is_judged: bool) -> usize {
        if self.quick && !is_judged { self.rounds.div_ceil(2) } else { self.rounds }
    }

    /// A size, smaller with `--quick`, and the words that say so.
    fn size(&self, full: i64, quick: i64, what: &str) -> (i64, Option<String>) {
        if !self.quick {
            return (full, None);
        }
        let said = (quick != full).then(|| format!("{quick} {what} instead of {full}"));
        (quick, said)
    }
}

/// The folder that everything is built in: this program lies in a folder of it.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder =
        program.parent().and_then(Path::parent).ok_or("this program lies in no folder of a build")?;
    Ok(folder.to_owned())
}

/// Lets a subject and its floor take turns, the first of a round the second of the next.
async fn interleaved(
    rounds: usize,
    mut subject: impl AsyncFnMut() -> Result<f64>,
    mut floor: impl AsyncFnMut() -> Result<f64>,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            let floor = floor().await?;
            Pair { subject: subject().await?, floor }
        } else {
            let subject = subject().await?;
            Pair { subject, floor: floor().await? }
        });
    }
    Ok(pairs)
}

/// The library's own pool beside a pool, as the bus opens it.
async fn library_pool(pool: &PgPool) -> Result<PgPool> {
    Ok(Postgres::open(pool, &PoolSettings::new(4, std::time::Duration::from_secs(5))).await?)
}

/// Fills an empty outbox through the library, and lets the planner know.
async fn seed_outbox(cell: &Cell, pool: &PgPool, count: i64) -> Result<()> {
    cell.empty().await?;
    publish(pool, 0, count).await?;
    cell.run("ANALYZE outbox").await
}

/// Publishes events from one number to before another, a thousand in a transaction.
async fn publish(pool: &PgPool, from: i64, to: i64) -> Result<()> {
    for start in (from..to).step_by(1000) {
        let events: Vec<_> = (start..to.min(start + 1000)).map(OrderPlaced::new).collect();
        // Nothing is measured here, so nothing needs to wait for the disk.
        let mut tx = pool.begin_with("BEGIN; SET LOCAL synchronous_commit = off").await?;
        OrderPlaced::publish_all(&mut tx, &events).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Runs a bus for as long as a measurement takes, which begins when its loops have started.
async fn beside<DB: Storage>(bus: &EventBus<DB>, measured: impl Future<Output = Result<()>>) -> Result<()> {
    let quiet = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        measured.await
    };
    beside_at_once(bus, quiet).await
}

/// The same for what begins with the bus.
async fn beside_at_once<DB: Storage>(
    bus: &EventBus<DB>,
    measured: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (handle, mut stop) = Shutdown::new();
    let running = bus.run_until(async move { stop.stopped().await });
    let measuring = async {
        let measured = measured.await;
        handle.stop();
        measured
    };
    let (ran, measured) = tokio::join!(running, measuring);
    ran?;
    measured
}
