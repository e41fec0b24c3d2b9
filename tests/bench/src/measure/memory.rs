//! The most memory that a process ever holds while it drains, by the size of the backlog.

use std::process::Stdio;
use std::time::Duration;

use distributed_events::OutboxSettings;
use sqlx::postgres::PgPoolOptions;

use super::{Bench, drain, library_pool, seed_outbox};
use crate::Result;
use crate::arguments::DRAIN;
use crate::broker::Null;
use crate::report::Row;
use crate::statistics::{Pair, Target};

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let (few, _) = bench.size(100_000, 20_000, "rows");
    let (many, scaled) = bench.size(1_000_000, 200_000, "rows");
    let cell = bench.server.fresh().await?;
    let pool = cell.pool(2).await?;
    let mut pairs = Vec::new();
    for _ in 0..if bench.quick { 1 } else { bench.rounds.min(3) } {
        let mut peaks = [0.0; 2];
        for (peak, rows) in peaks.iter_mut().zip([many, few]) {
            seed_outbox(&cell, &pool, rows).await?;
            *peak = peak_of(&cell.url(), rows).await?;
        }
        pairs.push(Pair { subject: peaks[0], floor: peaks[1] });
    }
    let case = format!("peak RSS, a backlog of {many}");
    let floor = format!("a backlog of {few}");
    let row = Row::compared("memory", case, "MiB", &pairs, floor).target(Target::AtMost(1.1));
    bench.report.row(row.scaled(scaled));
    pool.close().await;
    cell.drop().await
}

/// Lets a process of its own drain, since a peak is a process's and never goes down again.
async fn peak_of(url: &str, rows: i64) -> Result<f64> {
    let child = tokio::process::Command::new(std::env::current_exe()?)
        .args([DRAIN, url, &rows.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        return Err(format!("the process that drains ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse::<f64>()? / 1024.0)
}

/// That process: drains with the default settings, and prints its peak in KiB.
pub(crate) async fn drain(url: &str, rows: u64) -> Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    let library = library_pool(&pool).await?;
    drain::drain(library, &Null::new(Duration::ZERO), &OutboxSettings::default(), rows).await?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    // What the kernel calls the high water mark of the resident set.
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel tells no VmHWM")?;
    println!("{}", line.trim().trim_end_matches(" kB"));
    Ok(())
}
