//! The program `drain`: drains one table's backlog on a database given by URL, stops in order, and prints the most memory
//! that it ever held, in KiB. `drain URL outbox|inbox COUNT`.
//!
//! A process of its own, because a peak is a process's and never goes down again.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use distributed_events::broker::{Batch, BatchLimits, ReceiveError, Receiver, SendError, Service, Source};
use distributed_events::{Broker, BusBuilder, DistributedEvent, EventBus, HandlerSettings};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{MySqlPool, PgPool, Pool, SqlitePool};

use crate::conformance::Fixture;
use crate::eventually::within;
use crate::fixtures::{File, MySqlDatabase, PgDatabase};
use crate::rules::beside;

/// Whose inbox is drained.
pub const SUBSCRIPTION: &str = "draining";

/// For a backlog of a million rows on a slow machine.
const HOURS: Duration = Duration::from_secs(6 * 3600);

/// The `n`-th event of a backlog, so long that the process could not keep them all unseen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bulky {
    /// Its place.
    pub n: i64,
    padding: String,
}

impl Bulky {
    /// With its padding.
    pub fn new(n: i64) -> Self {
        Self { n, padding: "x".repeat(1000) }
    }
}

impl DistributedEvent for Bulky {
    const NAME: &'static str = "load.bulky";
    const HAS_SESSION: bool = true;

    /// Two of three have one, and there are ever more of them, as there are customers in a business.
    fn session_id(&self) -> Option<String> {
        (self.n % 3 != 0).then(|| format!("s{}", self.n / 10))
    }
}

/// Takes everything, and keeps nothing that the peak would be blamed for.
#[derive(Debug)]
struct Void;

impl Broker for Void {
    fn identity(&self) -> String {
        "void".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(256 * 1024, 1000)
    }

    fn attach(&self, _service: Service) {}

    fn send<'a>(&'a self, _batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async { Ok(()) })
    }

    fn receiver<'a>(
        &'a self,
        _source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async { Ok(None) })
    }
}

/// The program.
pub async fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [url, table, count] = words.as_slice() else {
        eprintln!("usage: drain URL outbox|inbox COUNT");
        return ExitCode::from(2);
    };
    let count = count.parse().unwrap();
    if url.starts_with("sqlite:") {
        // SQLite's own cache is as large as it is told to be, for each connection: filled by the smaller backlog, too, it says
        // nothing of the larger.
        let options = SqliteConnectOptions::from_str(url).unwrap().pragma("cache_size", "-256");
        run::<File>(SqlitePool::connect_with(options).await.unwrap(), table, count).await;
    } else if url.starts_with("postgres:") {
        run::<PgDatabase>(PgPool::connect(url).await.unwrap(), table, count).await;
    } else {
        run::<MySqlDatabase>(MySqlPool::connect(url).await.unwrap(), table, count).await;
    }
    println!("{}", peak());
    ExitCode::SUCCESS
}

async fn run<F: Fixture + 'static>(pool: Pool<F::DB>, table: &str, count: u64) {
    let builder = EventBus::builder(pool).broker(Void);
    let inbox = table == "inbox";
    let bus = if inbox { handling::<F>(builder) } else { builder }.build().unwrap();
    let done = || async { if inbox { bus.stats().processed } else { bus.stats().sent } };
    beside(&bus, within(HOURS, "the backlog is drained", done, |done| *done >= count)).await;
}

fn handling<F: Fixture + 'static>(builder: BusBuilder<F::DB>) -> BusBuilder<F::DB> {
    // In batches, or a million of them would take hours.
    builder.on(HandlerSettings::new(SUBSCRIPTION).batch(100), |event: Bulky, tx, _context| {
        Box::pin(async move {
            let sql = format!("INSERT INTO effects (session_id, n, instance) VALUES (NULL, {}, '')", event.n);
            Ok(F::run(&mut **tx, &sql).await?)
        })
    })
}

/// What the kernel calls the high water mark of the resident set.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
