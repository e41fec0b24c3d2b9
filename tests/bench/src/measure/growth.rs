//! What history and garbage cost: a drain over rows that were sent long ago, and the pages that a claim touches after many
//! that nobody has vacuumed, or that a snapshot elsewhere keeps from being vacuumed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use distributed_events::{Broker, OutboxRelay, OutboxSettings, Shutdown};
use serde_json::Value;
use sqlx::{Connection, PgPool};

use super::drain::drain;
use super::{Bench, interleaved, library_pool, publish};
use crate::Result;
use crate::broker::Null;
use crate::report::Row;
use crate::server::Cell;
use crate::statistics::{Pair, Target, quantile};

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let (most, scaled) = bench.size(5_000_000, 500_000, "rows");
    let mut histories = vec![(most, scaled)];
    if !bench.quick {
        histories.insert(0, (1_000_000, None));
    }
    for (rows, scaled) in histories {
        history(bench, rows, scaled).await?;
    }
    garbage(bench).await
}

/// A drain of an outbox that has kept so many rows, beside one of an outbox that has kept none.
async fn history(bench: &mut Bench, rows: i64, scaled: Option<String>) -> Result<()> {
    let (events, _) = bench.size(100_000, 30_000, "events");
    let (old, new) = (bench.server.fresh().await?, bench.server.fresh().await?);
    let (old_pool, new_pool) = (old.pool(2).await?, new.pool(2).await?);
    old.run(keep(rows)).await?;
    for cell in [&old, &new] {
        cell.run("ALTER TABLE outbox SET (autovacuum_enabled = off)").await?;
    }
    let drained = async |cell: &Cell, pool: &PgPool| {
        publish(pool, 0, events).await?;
        // Both alike, so that it is the rows that differ and not what was analysed or vacuumed meanwhile.
        cell.run("VACUUM (ANALYZE) outbox").await?;
        cell.run("CHECKPOINT").await?;
        rate(pool, events).await
    };
    let subject = async || drained(&old, &old_pool).await;
    let floor = async || {
        new.empty().await?;
        drained(&new, &new_pool).await
    };
    let pairs = interleaved(bench.rounds, subject, floor).await?;
    let case = format!("drain, {rows} rows retained");
    let row =
        Row::compared("growth", case, "events/s", &pairs, "none retained").target(Target::AtLeast(0.90));
    bench.report.row(row.scaled(scaled));
    old_pool.close().await;
    new_pool.close().await;
    old.drop().await?;
    new.drop().await
}

async fn rate(pool: &PgPool, events: i64) -> Result<f64> {
    let library = library_pool(pool).await?;
    let settings = OutboxSettings::default().batch_size(500);
    let taken = drain(library.clone(), &Null::new(Duration::ZERO), &settings, u64::try_from(events)?).await?;
    library.close().await;
    Ok(events as f64 / taken)
}

/// Rows that were sent within the last hours, under ids in the order of time, as the library's are.
fn keep(rows: i64) -> String {
    format!(
        "INSERT INTO outbox (id, event_type, event_data, topic, status, processed_at) \
         SELECT (lpad(to_hex(1700000000000 + n / 10), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || \
         substr(md5(n::text), 1, 15))::uuid, 'bench.order-placed', repeat('x', 200), 'orders', 'sent', \
         date_trunc('milliseconds', clock_timestamp()) FROM generate_series(1, {rows}) AS n"
    )
}

/// Pages that a claim touches, median over claims: a page of events comes every 20 ms and is taken at once.
async fn garbage(bench: &mut Bench) -> Result<()> {
    let (passed, scaled) = bench.size(1_000_000, 100_000, "events");
    let mut pairs = [vec![], vec![]];
    for _ in 0..bench.rounds_of(false).min(3) {
        let fresh = claims(bench, 0, false).await?;
        pairs[0].push(Pair { subject: claims(bench, passed, false).await?, floor: fresh });
        pairs[1].push(Pair { subject: claims(bench, passed, true).await?, floor: fresh });
    }
    for (case, pairs) in ["not vacuumed", "under a held snapshot"].into_iter().zip(&pairs) {
        let case = format!("buffers a claim, {passed} events {case}");
        let row =
            Row::compared("growth", case, "buffers", pairs, "a fresh table").target(Target::AtMost(2.0));
        bench.report.row(row.scaled(scaled.clone()));
    }
    Ok(())
}

async fn claims(bench: &Bench, passed: i64, held: bool) -> Result<f64> {
    let cell = bench.server.fresh().await?;
    cell.run("ALTER TABLE outbox SET (autovacuum_enabled = off)").await?;
    let mut reader = cell.connect().await?;
    let mut snapshot = reader.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    if held {
        sqlx::query("SELECT count(*) FROM business").fetch_one(&mut *snapshot).await?;
    }
    let pool = cell.pool(2).await?;
    // The library's connections alone are listened to.
    cell.run(explain(&cell)).await?;
    let listened = cell.pool(1).await?;
    let library = library_pool(&listened).await?;
    let broker = Null::new(Duration::ZERO);
    let (handle, stop) = Shutdown::new();
    let shared: Arc<dyn Broker> = Arc::new(broker.clone());
    let relay = OutboxRelay::new(library.clone(), shared).settings(OutboxSettings::default().batch_size(500));
    let relay = tokio::spawn(relay.run(stop));
    publish(&pool, 0, passed).await?;
    broker.has(u64::try_from(passed)?).await;
    let mut log = File::open(bench.server.log())?;
    log.seek(SeekFrom::End(0))?;
    let pages = if bench.quick { 150 } else { 500 };
    for page in 0..pages {
        let from = passed + page * 500;
        publish(&pool, from, from + 500).await?;
        broker.has(u64::try_from(from + 500)?).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handle.stop();
    relay.await?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    snapshot.rollback().await?;
    reader.close().await?;
    for pool in [library, listened, pool] {
        pool.close().await;
    }
    cell.drop().await?;
    let buffers = buffers_of_claims(&text);
    if buffers.is_empty() { Err("no claim was explained".into()) } else { Ok(quantile(&buffers, 0.5)) }
}

fn explain(cell: &Cell) -> String {
    let settings = [
        ("session_preload_libraries", "'auto_explain'"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_format", "'json'"),
    ];
    let database = cell.name();
    settings.map(|(name, value)| format!("ALTER DATABASE {database} SET {name} = {value}")).join("; ")
}

/// The shared buffers of every claim in a server's log that has found events.
fn buffers_of_claims(log: &str) -> Vec<f64> {
    let mut found = Vec::new();
    let mut plan = String::new();
    for line in log.lines().chain([""]) {
        // What belongs to a message is indented.
        if let Some(more) = line.strip_prefix('\t') {
            plan.push_str(more);
            continue;
        }
        let explained = serde_json::from_str::<Value>(&std::mem::take(&mut plan)).unwrap_or_default();
        let text = explained["Query Text"].as_str().unwrap_or_default();
        let is_claim = text.contains("FROM outbox WHERE lane = $1") && text.contains("deliver_at IS NULL");
        let number = |name: &str| explained["Plan"][name].as_f64().unwrap_or(0.0);
        if is_claim && number("Actual Rows") > 0.0 {
            found.push(number("Shared Hit Blocks") + number("Shared Read Blocks"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_in_a_log() {
        let plan = |text: &str, rows: u32, hit: u32| {
            format!(
                "2026 LOG:  duration: 0.1 ms  plan:\n\t{{\n\t  \"Query Text\": \"{text}\",\n\t  \"Plan\": {{\"Actual Rows\": {rows}, \
                 \"Shared Hit Blocks\": {hit}, \"Shared Read Blocks\": 1}}\n\t}}\n"
            )
        };
        let claim = "SELECT seq FROM outbox WHERE lane = $1 AND status = 'pending' AND deliver_at IS NULL";
        let log = [plan(claim, 500, 7), plan(claim, 0, 3), plan("UPDATE outbox", 500, 9), plan(claim, 1, 8)]
            .concat();
        assert_eq!(buffers_of_claims(&log), [8.0, 9.0]);
    }
}
