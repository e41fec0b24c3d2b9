//! The outbox relay on a backlog, beside reading the same rows page by page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use distributed_events::{Broker, OutboxRelay, OutboxSettings, Shutdown, Storage};
use futures_util::TryStreamExt;
use sqlx::pool::Pool;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{Bench, interleaved, library_pool, looks, seed_outbox};
use crate::Result;
use crate::broker::Null;
use crate::report::Row as Line;
use crate::server::Cell;
use crate::statistics::{Pair, Target};

/// What the relay reads at a time.
const PAGE: i64 = 500;

/// The columns that an event consists of, as they come from the table, times undecoded.
const READ: &str = "SELECT seq, id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, \
    causation_id, headers, created_at, deliver_at, expires_at FROM outbox WHERE lane = 'default' \
    AND status = 'pending' AND deliver_at IS NULL AND seq > $1 ORDER BY seq LIMIT $2";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let (events, scaled) = bench.size(200_000, 30_000, "events");
    for (what, delete, target) in [("delete", true, 0.65), ("keep", false, 0.35)] {
        for batch in [500, 100] {
            let settings = settings(batch, 8, delete);
            let cell = bench.server.fresh().await?;
            let pool = cell.pool(2).await?;
            let subject =
                async || drained(&cell, &pool, events, Duration::ZERO, &settings).await.map(|it| it.0);
            let floor = async || read_by_pages(&cell, &pool, events).await;
            let pairs = interleaved(bench.rounds_of(batch == 500), subject, floor).await?;
            let case = format!("null broker, batch {batch}, {what}");
            let row = Line::compared("drain", case, "events/s", &pairs, "keyset pages of 500")
                .scaled(scaled.clone());
            bench.report.row(if batch == 500 { row.target(Target::AtLeast(target)) } else { row });
            pool.close().await;
            cell.drop().await?;
        }
    }
    let cases = CASES_WITH_LATENCY.into_iter().filter(|case| !bench.quick || case.1 >= 100);
    for (milliseconds, batch, depth) in cases.collect::<Vec<_>>() {
        with_latency(bench, Duration::from_millis(milliseconds), batch, depth).await?;
    }
    Ok(())
}

/// Milliseconds, batch, depth. The target is of those in which the wire is what bounds: where depth and batch ask for more
/// than half of what the same drain does on a broker that takes no time, the database has a word in it.
const CASES_WITH_LATENCY: [(u64, usize, usize); 8] = [
    (1, 10, 8),
    (1, 100, 8),
    (10, 10, 8),
    (10, 100, 8),
    (10, 500, 8),
    (30, 100, 2),
    (30, 100, 8),
    (30, 500, 8),
];

async fn with_latency(bench: &mut Bench, latency: Duration, batch: usize, depth: usize) -> Result<()> {
    // Enough for two seconds by the wire's own pace, and no more than a database takes in that time.
    let by_wire = (depth * batch) as f64 / latency.as_secs_f64();
    let seconds = if bench.quick { 1.0 } else { 4.0 };
    let events = ((by_wire * seconds) as i64).clamp(4_000, if bench.quick { 20_000 } else { 150_000 });
    let settings = settings(batch, depth, false);
    let cell = bench.server.fresh().await?;
    let pool = cell.pool(2).await?;
    let (mut pairs, mut at_once) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds_of(false) {
        let (subject, seconds_a_batch) = drained(&cell, &pool, events, latency, &settings).await?;
        pairs.push(Pair { subject, floor: (depth * batch) as f64 / seconds_a_batch });
        let (floor, _) = drained(&cell, &pool, events, Duration::ZERO, &settings).await?;
        at_once.push(Pair { subject, floor });
    }
    let case = format!("{} ms, batch {batch}, depth {depth}, keep", latency.as_millis());
    let by_database = at_once.iter().map(|pair| pair.floor).sum::<f64>() / at_once.len() as f64;
    let scaled = bench.quick.then(|| format!("{events} events"));
    let row = if by_wire < by_database / 2.0 {
        Line::compared("drain", case, "events/s", &pairs, "depth x batch / latency as it was")
            .target(Target::AtLeast(0.90))
    } else {
        Line::compared(
            "drain",
            case,
            "events/s",
            &at_once,
            "the same with no latency: the database bounds it",
        )
    };
    bench.report.row(row.scaled(scaled));
    pool.close().await;
    cell.drop().await
}

pub(super) fn settings(batch: usize, depth: usize, delete: bool) -> OutboxSettings {
    let settings = OutboxSettings::default().batch_size(batch).in_flight(depth);
    if delete { settings.delete_sent() } else { settings }
}

/// Events in a second from the relay's start to the last one's mark, and the seconds that a batch took.
pub(super) async fn drained(
    cell: &Cell,
    pool: &PgPool,
    events: i64,
    latency: Duration,
    settings: &OutboxSettings,
) -> Result<(f64, f64)> {
    seed_outbox(cell, pool, events).await?;
    let library = library_pool(pool).await?;
    let broker = Null::new(latency);
    let taken = drain(library.clone(), &broker, settings, u64::try_from(events)?).await?;
    let left = cell.number("SELECT count(*) FROM outbox WHERE status = 'pending'").await?;
    if left != 0 || broker.events() != u64::try_from(events)? {
        return Err(format!("{left} of {events} are still there, {} were sent", broker.events()).into());
    }
    library.close().await;
    Ok((events as f64 / taken, broker.seconds_a_batch()))
}

/// Seconds from the relay's start until so many events are sent, marked, and the relay has stopped in order.
pub(super) async fn drain<DB: Storage>(
    library: Pool<DB>,
    broker: &Null,
    settings: &OutboxSettings,
    events: u64,
) -> Result<f64> {
    let (handle, stop) = Shutdown::new();
    let shared: Arc<dyn Broker> = Arc::new(broker.clone());
    let relay = OutboxRelay::new(library, shared).settings(settings.clone());
    looks::lit(async {
        let begun = Instant::now();
        let relay = tokio::spawn(relay.run(stop));
        broker.has(events).await;
        // A relay that stops marks what was accepted before it returns.
        handle.stop();
        relay.await?;
        Ok(begun.elapsed().as_secs_f64())
    })
    .await?
}

/// Rows in a second that are read page by page, each into the values that it is made of, and nothing written.
pub(super) async fn read_by_pages(cell: &Cell, pool: &PgPool, events: i64) -> Result<f64> {
    seed_outbox(cell, pool, events).await?;
    let mut conn = pool.acquire().await?;
    let begun = Instant::now();
    let count = looks::lit(pages(&mut conn)).await??;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    if count == events { Ok(rate) } else { Err(format!("{count} rows of {events} were read").into()) }
}

async fn pages(conn: &mut PgConnection) -> Result<i64> {
    let (mut after, mut count) = (0_i64, 0);
    loop {
        let mut rows = sqlx::query(READ).bind(after).bind(PAGE).fetch(&mut *conn);
        let before = count;
        while let Some(row) = rows.try_next().await? {
            let event: Event = (
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?),
                (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, row.try_get(8)?),
                (row.try_get(9)?, row.try_get(10)?),
            );
            std::hint::black_box(event);
            after = row.try_get(0)?;
            count += 1;
        }
        if count - before < PAGE {
            return Ok(count);
        }
    }
}

type Event = (
    (Uuid, String, i64, String),
    (Option<String>, String, Option<String>, Option<String>),
    (Option<String>, String),
);
