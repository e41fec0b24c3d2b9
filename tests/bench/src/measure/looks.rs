//! Measures that are looked at while they run: what they spend time with, or allocate, instead of how long they take.
//!
//! What a measure times it calls [`lit`]; whoever looks on does so for as long.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::PgPool;

use super::{Bench, allocations, drain, flames, ingest, processing, publish};
use crate::Result;
use crate::server::Cell;

/// What can be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// The floor of the drain.
    Pages,
    Drain {
        delete: bool,
    },
    /// So many events in a transaction.
    Publish(i64),
    Ingest,
    Processing,
}

/// All of them, by name.
pub(super) const SUBJECTS: [(&str, Subject); 7] = [
    ("pages", Subject::Pages),
    ("drain-delete", Subject::Drain { delete: true }),
    ("drain-keep", Subject::Drain { delete: false }),
    ("publish-1", Subject::Publish(1)),
    ("publish-10", Subject::Publish(10)),
    ("ingest", Subject::Ingest),
    ("processing", Subject::Processing),
];

/// Who looks on, and where what was seen goes.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Linux's `perf`.
    Perf(PathBuf),
    /// The allocator.
    Allocations(PathBuf),
}

tokio::task_local! {
    static LOOK: Look;
}

/// Runs what is timed, looked at where somebody looks.
pub(super) async fn lit<T>(timed: impl Future<Output = T>) -> Result<T> {
    match LOOK.try_with(Clone::clone) {
        Ok(Look::Perf(file)) => flames::recorded(&file, timed).await,
        Ok(Look::Allocations(file)) => allocations::counted(&file, timed).await,
        Err(_) => Ok(timed.await),
    }
}

/// Runs something that is looked at where it is lit.
pub(super) async fn seen<T>(look: Look, something: impl Future<Output = T>) -> T {
    LOOK.scope(look, something).await
}

/// Runs a subject under a look; tells of how many rows, transactions, messages or events what was seen is.
pub(super) async fn run(bench: &Bench, subject: Subject, look: Look) -> Result<f64> {
    let cell = bench.server.fresh().await?;
    let pool = cell.pool(16).await?;
    let of = seen(look, subject.run(bench, &cell, &pool)).await?;
    pool.close().await;
    cell.drop().await?;
    Ok(of)
}

impl Subject {
    /// What it is counted in.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Pages => "row",
            Self::Publish(_) => "transaction, with its business row",
            Self::Drain { .. } | Self::Ingest | Self::Processing => "event",
        }
    }

    async fn run(self, bench: &Bench, cell: &Cell, pool: &PgPool) -> Result<f64> {
        let (drains, messages) = (bench.size(200_000, 50_000, "").0, bench.size(100_000, 20_000, "").0);
        match self {
            Self::Pages => {
                drain::read_by_pages(cell, pool, drains).await?;
                Ok(drains as f64)
            }
            Self::Drain { delete } => {
                let settings = drain::settings(500, 8, delete);
                drain::drained(cell, pool, drains, Duration::ZERO, &settings).await?;
                Ok(drains as f64)
            }
            Self::Publish(events) => publish::published(pool, events).await,
            Self::Ingest => {
                ingest::ingested(cell, pool, messages, 100).await?;
                Ok(messages as f64)
            }
            Self::Processing => {
                let work = processing::Work { events: 3_000, workers: 1, inserts: true, batch: 1 };
                processing::processed(cell, pool, &work).await?;
                Ok(work.events as f64)
            }
        }
    }
}
