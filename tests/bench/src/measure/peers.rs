//! Other outboxes and job queues in the same run, each beside our own subject under the same contract: ../README.md.
//!
//! Everybody is a process that speaks the protocol of [`contestant`], our own subject too ([`ours`]); [`drive`] starts them
//! and has the clock, [`entries`] says who takes part and how.

mod contestant;
mod drive;
mod entries;
mod ours;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use self::contestant::{Mode, Task};
use self::drive::{Program, Rates, backlog, latencies};
use self::entries::{Contract, ENTRIES, Entry, Kind};
use super::flames::Drawing;
use super::{Bench, interleaved, looks, target};
use crate::Result;
use crate::arguments::COMPETE;
use crate::report::Row;
use crate::statistics::{Pair, Spread, Target, quantile};

/// Connections of a worker.
const POOL: u32 = 10;
/// Fewer are a few batches for our own subject, and no time that could be measured.
const LEAST_ROWS: i64 = 5_000;

/// What is told of a latency, and whether the target is for it: of the most of a few dozen nobody can tell.
const QUANTILES: [(&str, f64, bool); 3] = [("p50", 0.5, true), ("p95", 0.95, true), ("max", 1.0, false)];

/// That process of our own.
pub(crate) async fn compete(task: Vec<String>) -> Result<()> {
    contestant::compete::<ours::Ours>(&Task::read(task.into_iter())?).await
}

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let ours = our_program()?;
    let mut installed = HashMap::new();
    for kind in [Kind::Rust, Kind::Node, Kind::Python] {
        installed.insert(kind, install(kind).await);
    }
    for mode in [Mode::Drain, Mode::Processing, Mode::Latency] {
        for entry in ENTRIES.iter().filter(|entry| mode != Mode::Processing || entry.handles) {
            let measured = match &installed[&entry.peer.kind] {
                Err(error) => Err(error.to_string().into()),
                Ok(place) => {
                    let theirs = place.program(entry);
                    match mode {
                        Mode::Latency => latency(bench, &ours, &theirs, entry).await,
                        _ => throughput(bench, &ours, &theirs, entry, mode).await,
                    }
                }
            };
            if let Err(error) = measured {
                bench.report.not_run(
                    &format!("peers: {}: {}", mode.word(), entry.name()),
                    format!("can't run: {error}"),
                );
            }
        }
    }
    Ok(())
}

fn our_program() -> Result<Program> {
    Ok(Program { file: std::env::current_exe()?, words: vec![COMPETE.to_owned()] })
}

/// Draws what those spend their time with that come nearest to us in `processing`, and we beside each.
pub(super) async fn draw(bench: &Bench, drawing: &Drawing<'_>) -> Result<()> {
    let ours = our_program()?;
    for entry in ENTRIES.iter().filter(|entry| entry.is_near()) {
        let (word, settings) = match entry.contract {
            Contract::Each => ("one", ours::ONE),
            Contract::Batch => ("fifty", ours::FIFTY),
        };
        let (rows, _) = bench.size(entry.rows.0, entry.rows.1, "");
        let theirs = install(entry.peer.kind).await?.program(entry);
        let (mode, pool, pause) = (Mode::Processing, POOL, Duration::ZERO);
        for (name, program, settings, rows) in [
            (format!("processing-{word}"), &ours, settings, rows.max(LEAST_ROWS)),
            (format!("processing-{}", entry.peer.name), &theirs, entry.settings, rows),
        ] {
            let cell = bench.server.fresh().await?;
            let (url, rows) = (cell.url(), usize::try_from(rows)?);
            let task = Task { url, mode, settings: settings.to_owned(), rows, pool, pause };
            let client = program.words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
            let run = async |look| looks::seen(look, backlog(&cell, program, &task)).await;
            drawing.of(&name, client, run).await?;
            cell.drop().await?;
        }
    }
    Ok(())
}

/// Where the peers of one kind are.
#[derive(Debug)]
struct Place {
    program: PathBuf,
    drivers: PathBuf,
}

impl Place {
    fn program(&self, entry: &Entry) -> Program {
        let driver = entry.peer.driver;
        let word = match entry.peer.kind {
            Kind::Rust => driver.to_owned(),
            Kind::Node | Kind::Python => self.drivers.join(driver).to_string_lossy().into_owned(),
        };
        Program { file: self.program.clone(), words: vec![word] }
    }
}

async fn install(kind: Kind) -> Result<Place> {
    println!("peers: building or installing those of {}", kind.word());
    let folder = target()?.join("peers");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/install"))
        .arg(kind.word())
        .arg(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let (said, errors) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    if !output.status.success() {
        eprint!("{errors}");
        return Err(errors
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("no reason")
            .to_owned()
            .into());
    }
    let mut lines = said.lines().map(PathBuf::from);
    match (lines.next(), lines.next()) {
        (Some(program), Some(drivers)) => Ok(Place { program, drivers }),
        _ => Err(format!("peers/install said {said:?}").into()),
    }
}

/// Rows in a second until the last one is settled, beside a peer that settles in the same way.
async fn throughput(
    bench: &mut Bench,
    ours: &Program,
    theirs: &Program,
    entry: &Entry,
    mode: Mode,
) -> Result<()> {
    let (full, quick) = entry.rows;
    // Fewer than that are more of a start than of a drain.
    let quick = if mode == Mode::Drain && entry.contract == Contract::Batch { full } else { quick };
    let (rows, scaled) = bench.size(full, quick, "rows");
    let settings = match (mode, entry.contract) {
        (Mode::Processing, Contract::Each) => ours::ONE,
        (Mode::Processing, Contract::Batch) => ours::FIFTY,
        _ if entry.deletes => ours::DELETE,
        _ => ours::KEEP,
    };
    let case = format!("{} ({settings}): {}", mode.word(), entry.name());
    let beside = Beside { ours, theirs, mode, settings, entry };
    let row = beside.row(bench, case, rows.max(LEAST_ROWS), rows, Duration::ZERO).await?;
    bench.report.row(row.target(Target::AtLeast(2.0)).scaled(scaled));
    if bench.quick || mode == Mode::Processing || !entry.is_fast() {
        return Ok(());
    }
    // A round trip to a broker, for a batch or for an event as each of them sends.
    for milliseconds in [1, 10] {
        let case = format!("drain ({settings}), sink {milliseconds} ms: {}", entry.name());
        let row = beside.row(bench, case, 20_000, 2_000, Duration::from_millis(milliseconds)).await?;
        bench.report.row(row.target(Target::AtLeast(2.0)));
    }
    Ok(())
}

/// Two contestants with a backlog.
struct Beside<'a> {
    ours: &'a Program,
    theirs: &'a Program,
    mode: Mode,
    settings: &'a str,
    entry: &'a Entry,
}

impl Beside<'_> {
    async fn row(
        &self,
        bench: &Bench,
        case: String,
        our_rows: i64,
        their_rows: i64,
        sink: Duration,
    ) -> Result<Row> {
        let (mut ours_called, mut theirs_called) = (Vec::new(), Vec::new());
        let subject = async || {
            let rates = self.rates(bench, self.ours, self.settings, our_rows, sink).await?;
            ours_called.push(rates.called);
            Ok(rates.settled)
        };
        let floor = async || {
            let rates = self.rates(bench, self.theirs, self.entry.settings, their_rows, sink).await?;
            theirs_called.push(rates.called);
            Ok(rates.settled)
        };
        let pairs = interleaved(bench.rounds, subject, floor).await?;
        let [ours, theirs] =
            [ours_called, theirs_called].map(|called| crate::report::number(Spread::of(&called).median));
        let note = format!("{}; until the last call {ours} beside {theirs}", self.entry.describe(self.mode));
        Ok(Row::compared(super::PEERS, case, "events/s", &pairs, note))
    }

    async fn rates(
        &self,
        bench: &Bench,
        program: &Program,
        settings: &str,
        rows: i64,
        sink: Duration,
    ) -> Result<Rates> {
        let cell = bench.server.fresh().await?;
        let (url, settings, rows) = (cell.url(), settings.to_owned(), usize::try_from(rows)?);
        let taken =
            backlog(&cell, program, &Task { url, mode: self.mode, settings, rows, pool: POOL, pause: sink })
                .await;
        cell.drop().await?;
        Ok(taken?.rates(rows))
    }
}

/// Milliseconds from a commit to the handler of an idle worker, or to our broker.
async fn latency(bench: &mut Bench, ours: &Program, theirs: &Program, entry: &Entry) -> Result<()> {
    let (samples, scaled) = bench.size(entry.samples.0, entry.samples.1, "samples");
    let (mut our_samples, mut their_samples) = (Vec::new(), Vec::new());
    let subject = async || {
        our_samples.push(idle(bench, ours, "default", samples, entry.spread).await?);
        Ok(f64::NAN)
    };
    let floor = async || {
        their_samples.push(idle(bench, theirs, entry.settings, samples, entry.spread).await?);
        Ok(f64::NAN)
    };
    interleaved(bench.rounds, subject, floor).await?;
    for (name, share, is_judged) in QUANTILES {
        let pairs: Vec<_> = our_samples
            .iter()
            .zip(&their_samples)
            .map(|(ours, theirs)| Pair { subject: quantile(ours, share), floor: quantile(theirs, share) })
            .collect();
        let case = format!("latency, {name}: {}", entry.name());
        let row = Row::compared(super::PEERS, case, "ms", &pairs, entry.describe(Mode::Latency));
        let row = if is_judged { row.target(Target::AtMost(1.0)) } else { row };
        bench.report.row(row.scaled(scaled.clone()));
    }
    Ok(())
}

async fn idle(
    bench: &Bench,
    program: &Program,
    settings: &str,
    samples: i64,
    spread: Duration,
) -> Result<Vec<f64>> {
    let cell = bench.server.fresh().await?;
    let (url, settings) = (cell.url(), settings.to_owned());
    // One more than what is told: the first is everybody's warm-up.
    let rows = usize::try_from(samples)? + 1;
    let task = Task { url, mode: Mode::Latency, settings, rows, pool: POOL, pause: spread };
    let taken = latencies(program, &task).await;
    cell.drop().await?;
    taken
}
