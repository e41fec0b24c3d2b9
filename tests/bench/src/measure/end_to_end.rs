//! The whole way, through the emulator of Service Bus: from the commit of who publishes to the commit of the handler, both
//! as the database's own record has them, at rates that don't wait for anybody.

use std::time::{Duration, Instant};

use distributed_events::{DistributedEvent, EventBus, HandlerSettings, InboxSettings, ServiceBus};
use sqlx::{PgPool, Postgres};
use tokio::task::JoinSet;

use super::processing::SUBSCRIPTION;
use super::{Bench, beside};
use crate::Result;
use crate::emulator::Emulator;
use crate::event::OrderPlaced;
use crate::report::Row;
use crate::server::Cell;

/// Events a second, and how many of them a transaction publishes.
const RATES: [(i64, i64); 3] = [(100, 1), (1_000, 1), (5_000, 10)];

/// Who publishes at the same time.
const PUBLISHERS: i64 = 8;

/// What was published and is not handled so long after the last one counts as lost time, and ends the measurement.
const PATIENCE: Duration = Duration::from_secs(20);

const PLACED: &str =
    "INSERT INTO business (customer, note) SELECT n, 'placed' FROM unnest($1::bigint[]) AS n";

const CHARGED: &str = "INSERT INTO business (customer, note) VALUES ($1, 'charged')";

const LATENCIES: &str = "SELECT percentile_cont(ARRAY[0.5, 0.99, 0.999]) WITHIN GROUP (ORDER BY 1e3 * extract(epoch FROM \
    pg_xact_commit_timestamp(charged.xmin) - pg_xact_commit_timestamp(placed.xmin))::float8) \
    FROM business AS placed JOIN business AS charged USING (customer) \
    WHERE placed.note = 'placed' AND charged.note = 'charged'";

const SPAN: &str = "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)) - min(pg_xact_commit_timestamp(xmin)))::float8 \
    FROM business WHERE note = 'charged'";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let seconds = if bench.quick { 5 } else { 30 };
    let scaled = bench.quick.then(|| format!("{seconds} s of events instead of 30"));
    for (rate, together) in RATES {
        let (mut latencies, mut handled) = ([vec![], vec![], vec![]], vec![]);
        for _ in 0..if bench.quick { 1 } else { bench.rounds.min(3) } {
            let cell = bench.server.fresh().await?;
            let (quantiles, speed) = once(&cell, rate, together, seconds).await?;
            for (all, one) in latencies.iter_mut().zip(quantiles) {
                all.push(one);
            }
            handled.push(speed);
            cell.drop().await?;
        }
        let offered = if together == 1 { format!("{rate}/s") } else { format!("{rate}/s in tens") };
        for (name, values) in ["p50", "p99", "p99.9"].into_iter().zip(&latencies) {
            let case = format!("{offered}, {name}");
            bench.report.row(Row::alone("end-to-end", case, "ms", values).scaled(scaled.clone()));
        }
        let case = format!("{offered}, handled");
        bench.report.row(Row::alone("end-to-end", case, "events/s", &handled).scaled(scaled.clone()));
    }
    Ok(())
}

/// Three quantiles of the latency in milliseconds, and the events that were handled in a second.
async fn once(cell: &Cell, rate: i64, together: i64, seconds: i64) -> Result<(Vec<f64>, f64)> {
    let emulator = Emulator::start("orders", SUBSCRIPTION).await?;
    let pool = cell.pool(u32::try_from(PUBLISHERS)?).await?;
    let bus = EventBus::builder(pool.clone())
        .broker(ServiceBus::from_connection_string(&emulator.connection_string())?)
        .inbox(InboxSettings::default().workers(4))
        .on(HandlerSettings::new(SUBSCRIPTION).batch(50), |event: OrderPlaced, tx, _context| {
            Box::pin(async move {
                sqlx::query(CHARGED).bind(event.n).execute(&mut **tx).await?;
                Ok(())
            })
        })
        .build()?;
    let events = rate * seconds;
    beside(&bus, async {
        offer(&bus, &pool, rate, together, events).await?;
        let end = Instant::now() + PATIENCE + Duration::from_secs(u64::try_from(seconds)?);
        while bus.stats().processed < u64::try_from(events)? {
            if Instant::now() > end {
                return Err(format!("only {} of {events} were handled", bus.stats().processed).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await?;
    let quantiles: Vec<f64> = sqlx::query_scalar(LATENCIES).fetch_one(&pool).await?;
    let span: f64 = sqlx::query_scalar(SPAN).fetch_one(&pool).await?;
    let handled = cell.number("SELECT count(DISTINCT customer) FROM business WHERE note = 'charged'").await?;
    pool.close().await;
    if handled != events {
        return Err(format!("{handled} of {events} were handled, or some twice").into());
    }
    Ok((quantiles, events as f64 / span))
}

/// Publishes at a rate, whatever has become of those before: a publisher that is late catches up and leaves out nothing.
async fn offer(bus: &EventBus<Postgres>, pool: &PgPool, rate: i64, together: i64, events: i64) -> Result<()> {
    let begun = Instant::now();
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (bus, pool) = (bus.clone(), pool.clone());
        publishers.spawn(async move {
            let mut n = publisher * together;
            while n < events {
                let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                let numbers: Vec<_> = (n..events.min(n + together)).collect();
                let placed: Vec<_> = numbers.iter().copied().map(OrderPlaced::new).collect();
                let mut tx = pool.begin().await?;
                sqlx::query(PLACED).bind(numbers).execute(&mut *tx).await?;
                OrderPlaced::publish_all(&mut tx, &placed).await?;
                bus.commit(tx).await?;
                n += PUBLISHERS * together;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    Ok(())
}
