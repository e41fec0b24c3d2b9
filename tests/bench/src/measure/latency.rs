//! How soon an idle relay and an idle processor see what was committed, and what idling costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use distributed_events::{
    Broker, DistributedEvent, EventBus, HandlerSettings, LocalBroker, OutboxRelay, Shutdown, Storage,
};
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgPool, Postgres};

use super::processing::{SUBSCRIPTION, guarded, received};
use super::{Bench, beside, library_pool};
use crate::Result;
use crate::broker::Null;
use crate::event::OrderPlaced;
use crate::floors::{INSERT, NOTE};
use crate::report::Row;
use crate::server::Cell;
use crate::statistics::{Pair, Target, quantile};

/// Between two events: longer than the time in which a loop that was hinted looks again and again.
const APART: Duration = Duration::from_millis(160);

/// What is told of a latency.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let (samples, scaled) = bench.size(400, 60, "samples");
    let rounds = bench.rounds_of(false).max(2);
    let cell = bench.server.fresh().await?;
    let pool = cell.pool(4).await?;
    let (mut seen, mut heard, mut handled, mut sums) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        heard.push(listen_and_select(&pool, samples).await?);
        seen.push(to_relay(&cell, &pool, samples).await?);
        sums.push(floors_of_a_handler(&cell, &pool, samples, &heard).await?);
        handled.push(to_handlers_commit(&cell, &pool, samples).await?);
    }
    for (name, share) in QUANTILES {
        let at = |samples: &Vec<f64>| quantile(samples, share);
        let pairs: Vec<_> = seen
            .iter()
            .zip(&heard)
            .map(|(seen, heard)| Pair { subject: at(seen), floor: at(heard) })
            .collect();
        let row =
            Row::compared("latency", format!("commit to relay, {name}"), "ms", &pairs, "LISTEN and SELECT");
        let row = row.scaled(scaled.clone());
        bench.report.row(if share == 0.5 { row.target(Target::AtMost(1.5)) } else { row });
    }
    for (name, share) in QUANTILES {
        let pairs: Vec<_> = handled
            .iter()
            .zip(&sums)
            .map(|(handled, sum)| Pair { subject: quantile(handled, share), floor: *sum })
            .collect();
        let floor = "p50 of LISTEN and SELECT + inbox commit + poll + transaction by hand";
        let row =
            Row::compared("latency", format!("commit to handler's commit, {name}"), "ms", &pairs, floor);
        let row = row.scaled(scaled.clone());
        bench.report.row(if share == 0.5 { row.target(Target::AtMost(1.5)) } else { row });
    }
    idling(bench, &cell, &pool).await?;
    pool.close().await;
    cell.drop().await
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds from a commit's return until a raw listener has the row: the notification goes with the transaction.
async fn listen_and_select(pool: &PgPool, samples: i64) -> Result<Vec<f64>> {
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    let (mut listener, reader) = (PgListener::connect_with(pool).await?, pool.clone());
    listener.listen("bench").await?;
    let listening = tokio::spawn(async move {
        let mut conn = reader.acquire().await?;
        let mut after = 0_i64;
        loop {
            listener.recv().await?;
            let sql = "SELECT id, note FROM business WHERE id > $1 ORDER BY id LIMIT 500";
            let rows: Vec<(i64, String)> = sqlx::query_as(sql).bind(after).fetch_all(&mut *conn).await?;
            after = rows.last().map_or(after, |row| row.0);
            if arrived.send(Instant::now()).await.is_err() {
                return Ok::<_, sqlx::Error>(());
            }
        }
    });
    let mut taken = Vec::new();
    // The first one finds the rows of the round before it.
    for n in 0..=samples {
        tokio::time::sleep(APART).await;
        let mut tx = pool.begin().await?;
        sqlx::query(INSERT).bind(n).bind(NOTE).execute(&mut *tx).await?;
        sqlx::query("NOTIFY bench").execute(&mut *tx).await?;
        tx.commit().await?;
        let committed = Instant::now();
        let arrival = arrivals.recv().await.ok_or("the listener has ended")?;
        if n > 0 {
            taken.push(arrival.saturating_duration_since(committed).as_secs_f64() * 1e3);
        }
    }
    listening.abort();
    Ok(taken)
}

/// Milliseconds from the return of `bus.commit` until the relay's broker has the event.
async fn to_relay(cell: &Cell, pool: &PgPool, samples: i64) -> Result<Vec<f64>> {
    cell.empty().await?;
    let broker = Null::new(Duration::ZERO);
    let bus = EventBus::builder(pool.clone()).broker(broker.clone()).publishes::<OrderPlaced>().build()?;
    let mut taken = Vec::new();
    let measured = async {
        for n in 0..=samples {
            tokio::time::sleep(APART).await;
            let mut tx = pool.begin().await?;
            OrderPlaced::new(n).publish(&mut tx).await?;
            bus.commit(tx).await?;
            let committed = Instant::now();
            broker.has(u64::try_from(n)? + 1).await;
            let arrival = broker.last().unwrap_or(committed);
            if n > 0 {
                taken.push(arrival.saturating_duration_since(committed).as_secs_f64() * 1e3);
            }
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    beside(&bus, measured).await?;
    Ok(taken)
}

/// Milliseconds from the return of `bus.commit` until the handler's transaction is committed, by the embedded broker.
async fn to_handlers_commit(cell: &Cell, pool: &PgPool, samples: i64) -> Result<Vec<f64>> {
    cell.empty().await?;
    let bus = EventBus::builder(pool.clone())
        .broker(LocalBroker::new())
        .on(HandlerSettings::new(SUBSCRIPTION), |event: OrderPlaced, tx, _context| {
            Box::pin(async move {
                sqlx::query(INSERT).bind(event.n).bind(NOTE).execute(&mut **tx).await?;
                Ok(())
            })
        })
        .build()?;
    let mut taken = Vec::new();
    let measured = async {
        for n in 0..=samples {
            tokio::time::sleep(APART).await;
            let mut tx = pool.begin().await?;
            OrderPlaced::new(n).publish(&mut tx).await?;
            let watch = Watch::new(&bus, u64::try_from(n)? + 1);
            bus.commit(tx).await?;
            let committed = Instant::now();
            let done = watch.done().await?;
            if n > 0 {
                taken.push(done.saturating_duration_since(committed).as_secs_f64() * 1e3);
            }
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    beside(&bus, measured).await?;
    Ok(taken)
}

/// Looks every 50 us, on a thread of its own, whether a bus has processed so many: the counter moves after the commit, and
/// the runtime's timers are too coarse for it.
struct Watch(tokio::sync::oneshot::Receiver<Instant>, Arc<AtomicBool>);

impl Watch {
    fn new(bus: &EventBus<Postgres>, count: u64) -> Self {
        let (told, hears) = tokio::sync::oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (watched, stopped) = (bus.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while watched.stats().processed < count && !stopped.load(Relaxed) {
                std::thread::sleep(Duration::from_micros(50));
            }
            let _gone = told.send(Instant::now());
        });
        Self(hears, stop)
    }

    async fn done(mut self) -> Result<Instant> {
        Ok((&mut self.0).await?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.1.store(true, Relaxed);
    }
}

/// What an event can't do without on its way to a handler's commit, added up: being heard of and read, a commit in the
/// inbox, a look at the inbox, and the handler's transaction with its guard; the median of each.
async fn floors_of_a_handler(cell: &Cell, pool: &PgPool, samples: i64, heard: &[Vec<f64>]) -> Result<f64> {
    cell.empty().await?;
    let mut conn = pool.acquire().await?;
    let (mut stored, mut looked, mut ran) = (vec![], vec![], vec![]);
    for n in 0..samples {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let event = received(n)?;
        let begun = Instant::now();
        Postgres::ingest(&mut conn, SUBSCRIPTION, std::slice::from_ref(&event)).await?;
        stored.push(milliseconds(begun));
        let begun = Instant::now();
        let sql = "SELECT seq FROM inbox WHERE subscription = 'billing' AND status = 'pending'";
        let seq: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        looked.push(milliseconds(begun));
        let begun = Instant::now();
        guarded(&mut conn, seq, true).await?;
        ran.push(milliseconds(begun));
    }
    let listen = heard.last().map_or(f64::NAN, |heard| quantile(heard, 0.5));
    Ok([stored, looked, ran].iter().fold(listen, |sum, taken| sum + quantile(taken, 0.5)))
}

/// Queries in a second while nothing happens, of a relay alone and of a whole bus with one subscription.
async fn idling(bench: &mut Bench, cell: &Cell, pool: &PgPool) -> Result<()> {
    let window = Duration::from_secs(if bench.quick { 10 } else { 30 });
    let scaled = bench.quick.then(|| "10 s instead of 30".to_owned());
    cell.empty().await?;
    let library = library_pool(pool).await?;
    let shared: Arc<dyn Broker> = Arc::new(Null::new(Duration::ZERO));
    let (handle, stop) = Shutdown::new();
    let relay = tokio::spawn(OutboxRelay::new(library.clone(), shared).run(stop));
    let by_relay = transactions(cell, window).await?;
    handle.stop();
    relay.await?;
    library.close().await;
    let bus = EventBus::builder(pool.clone())
        .broker(Null::new(Duration::ZERO))
        .on(HandlerSettings::new(SUBSCRIPTION), |_: OrderPlaced, _tx, _context| Box::pin(async { Ok(()) }))
        .build()?;
    let mut by_bus = f64::NAN;
    beside(&bus, async {
        by_bus = transactions(cell, window).await?;
        Ok(())
    })
    .await?;
    // A bus is the relay, the processor, and what renews, listens and tidies, which hardly asks.
    for (case, rate) in
        [("an idle outbox relay", by_relay), ("an idle processor and the rest", by_bus - by_relay)]
    {
        let row = Row::alone("latency", format!("queries, {case}"), "1/s", &[rate]);
        bench.report.row(row.target(Target::AtMost(5.0)).scaled(scaled.clone()));
    }
    Ok(())
}

/// Transactions in a second on a database where only the library is at work: each of its idle statements is one, or the
/// most of one.
async fn transactions(cell: &Cell, window: Duration) -> Result<f64> {
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let mut conn = cell.connect().await?;
    // What follows a start is over, and told.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await?;
    let begun = Instant::now();
    tokio::time::sleep(window).await;
    let after: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await?;
    let rate = (after - before) as f64 / begun.elapsed().as_secs_f64();
    conn.close().await?;
    Ok(rate)
}
