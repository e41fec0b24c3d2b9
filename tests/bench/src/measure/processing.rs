//! The processor on a full inbox, beside the same statements written by hand, guard and all.

use std::time::{Duration, Instant};

use distributed_events::storage::{Body, IncomingEvent, Storage};
use distributed_events::{DistributedEvent, EventBus, EventId, HandlerSettings, InboxSettings};
use sqlx::{AssertSqlSafe, Connection, PgPool, Postgres};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Bench, interleaved, looks};
use crate::Result;
use crate::awake::Awake;
use crate::broker::Null;
use crate::event::OrderPlaced;
use crate::floors::{INSERT, NOTE};
use crate::report::Row;
use crate::server::Cell;
use crate::statistics::{Pair, Target};

/// Whose inbox it is.
pub(super) const SUBSCRIPTION: &str = "billing";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for inserts in [false, true] {
        let handler = if inserts { "one insert" } else { "no-op" };
        for workers in [1, 4, 16] {
            // A turn of a shard has its own cost, which few events would have to bear.
            let (events, quick) = if workers == 1 { (6_000, 3_000) } else { (12_000, 1_200) };
            let (events, scaled) = bench.size(events, quick, "events");
            let cell = bench.server.fresh().await?;
            let pool = cell.pool(16).await?;
            let work = Work { events, workers, inserts, batch: 1 };
            let subject = async || processed(&cell, &pool, &work).await;
            let floor = async || by_hand(&cell, &pool, &work).await;
            let rounds = bench.rounds_of(workers == 1);
            let measured = async || interleaved(rounds, subject, floor).await;
            let row = |pairs: &[Pair], so: &str| {
                let case = format!("per message, {workers} workers, {handler}{so}");
                let row = Row::compared("processing", case, "events/s", pairs, "the same statements by hand");
                let row = if workers == 1 { row.target(Target::AtLeast(0.95)) } else { row };
                row.scaled(scaled.clone())
            };
            bench.report.row(row(&measured().await?, ""));
            if workers == 1 {
                let _awake = Awake::keep()?;
                bench.report.row(row(&measured().await?, ", awake"));
            }
            pool.close().await;
            cell.drop().await?;
        }
        batches(bench, inserts, handler).await?;
    }
    Ok(())
}

/// Fifty in a transaction beside one, and beside what a client can do that commits each row by itself.
async fn batches(bench: &mut Bench, inserts: bool, handler: &str) -> Result<()> {
    for workers in [1, 4, 16] {
        let (many, scaled) = bench.size(100_000, 10_000, "events");
        let (few, _) = bench.size(6_000, 1_200, "events");
        let cell = bench.server.fresh().await?;
        let pool = cell.pool(16).await?;
        let subject =
            async || processed(&cell, &pool, &Work { events: many, workers, inserts, batch: 50 }).await;
        let floor = async || processed(&cell, &pool, &Work { events: few, workers, inserts, batch: 1 }).await;
        let pairs = interleaved(bench.rounds_of(workers == 1), subject, floor).await?;
        let case = format!("batch 50, {workers} workers, {handler}");
        let row =
            Row::compared("processing", case, "events/s", &pairs, "the same per message").scaled(scaled);
        bench.report.row(if workers == 1 { row.target(Target::AtLeast(3.0)) } else { row });
        if workers == 1 && inserts {
            let mut beside = Vec::new();
            for pair in pairs {
                beside.push(Pair { floor: crate::floors::commits(&pool, 1).await?, ..pair });
            }
            let case = "batch 50, 1 worker, one insert";
            bench.report.row(Row::compared(
                "processing",
                case,
                "events/s",
                &beside,
                "one INSERT and COMMIT each",
            ));
        }
        pool.close().await;
        cell.drop().await?;
    }
    Ok(())
}

/// What is to be processed, and how.
pub(super) struct Work {
    pub(super) events: i64,
    pub(super) workers: usize,
    pub(super) inserts: bool,
    pub(super) batch: u32,
}

/// Fills an empty inbox through the library, and lets the planner know.
pub(super) async fn seed_inbox(cell: &Cell, pool: &PgPool, count: i64) -> Result<()> {
    cell.empty().await?;
    fill_inbox(pool, count).await?;
    cell.run("ANALYZE inbox").await
}

/// Puts so many messages into an inbox.
pub(super) async fn fill_inbox(pool: &PgPool, count: i64) -> Result<()> {
    let mut conn = pool.acquire().await?;
    for start in (0..count).step_by(1000) {
        let events = (start..count.min(start + 1000)).map(received).collect::<Result<Vec<_>>>()?;
        Postgres::ingest(&mut conn, SUBSCRIPTION, &events).await?;
    }
    Ok(())
}

pub(super) fn received(n: i64) -> Result<IncomingEvent> {
    let body = Body::Text(serde_json::to_string(&OrderPlaced::new(n))?);
    Ok(IncomingEvent::new(EventId::new(), OrderPlaced::NAME, body))
}

/// Events in a second from the first that is processed to the last.
pub(super) async fn processed(cell: &Cell, pool: &PgPool, work: &Work) -> Result<f64> {
    seed_inbox(cell, pool, work.events).await?;
    let settings = HandlerSettings::new(SUBSCRIPTION).batch(work.batch);
    let inserts = work.inserts;
    let bus = EventBus::builder(pool.clone())
        .broker(Null::new(Duration::ZERO))
        .inbox(InboxSettings::default().workers(work.workers))
        .on(settings, move |event: OrderPlaced, tx, _context| {
            Box::pin(async move {
                if inserts {
                    sqlx::query(INSERT).bind(event.n).bind(NOTE).execute(&mut **tx).await?;
                }
                Ok(())
            })
        })
        .build()?;
    let (watched, (tell, rate)) = (bus.clone(), oneshot::channel());
    let all = u64::try_from(work.events)?;
    bus.run_until(async move {
        let timed = async {
            let (first, begun) = (reached(&watched, 1).await, Instant::now());
            let last = reached(&watched, all).await;
            (last - first) as f64 / begun.elapsed().as_secs_f64()
        };
        // Nobody listens where the bus has failed, which is told instead.
        let _unheard = tell.send(looks::lit(timed).await);
    })
    .await?;
    let wanted = if inserts {
        "SELECT count(*) FROM business"
    } else {
        "SELECT count(*) FROM inbox WHERE status = 'processed'"
    };
    let done = cell.number(wanted).await?;
    if done != work.events {
        return Err(format!("{done} of {} were processed", work.events).into());
    }
    rate.await?
}

/// Looks seldom: each look wakes a thread that what is measured has to share a processor with.
async fn reached(bus: &EventBus<Postgres>, count: u64) -> u64 {
    loop {
        let processed = bus.stats().processed;
        if processed >= count {
            return processed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the library sends for one message, byte for byte where it matters, with nobody who reads, decodes or decides.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 500; \
    SET LOCAL distributed_events.lock_timeout = 30100; SET LOCAL statement_timeout = 30100; \
    SET LOCAL idle_in_transaction_session_timeout = 32000; SAVEPOINT distributed_events_guard";

const MARK: &str = "WITH marked AS (UPDATE inbox SET status = 'processed', \
    processed_at = date_trunc('milliseconds', clock_timestamp()) \
    WHERE seq + 0 = $1 AND status = 'pending' RETURNING 1) SELECT count(*) AS marked, \
    set_config('lock_timeout', coalesce(nullif(current_setting('distributed_events.lock_timeout', true), ''), \
    current_setting('lock_timeout')), true), set_config('distributed_events.marked', 'yes', true), \
    CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') \
    THEN set_config('synchronous_commit', 'on', true) END FROM marked";

const CLOSE: &str = "RELEASE SAVEPOINT distributed_events_guard; \
    SELECT coalesce(current_setting('distributed_events.marked', true), '') = 'yes' AS marked, \
    coalesce(current_setting('distributed_events.lock_timeout', true), '') <> '' AS guarded";

/// Messages in a second by hand: each worker has its share, one connection, and knows beforehand what to do.
async fn by_hand(cell: &Cell, pool: &PgPool, work: &Work) -> Result<f64> {
    seed_inbox(cell, pool, work.events).await?;
    let seqs: Vec<i64> =
        sqlx::query_scalar("SELECT seq FROM inbox ORDER BY shard, seq").fetch_all(pool).await?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for share in seqs.chunks(seqs.len().div_ceil(work.workers)) {
        let (share, pool, inserts) = (share.to_vec(), pool.clone(), work.inserts);
        tasks.spawn(async move {
            let mut conn = pool.acquire().await?;
            for seq in share {
                guarded(&mut conn, seq, inserts).await?;
            }
            Ok::<_, sqlx::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let rate = work.events as f64 / begun.elapsed().as_secs_f64();
    let left = cell.number("SELECT count(*) FROM inbox WHERE status = 'pending'").await?;
    if left == 0 { Ok(rate) } else { Err(format!("{left} were left").into()) }
}

/// One message's transaction by hand.
pub(super) async fn guarded(
    conn: &mut sqlx::PgConnection,
    seq: i64,
    inserts: bool,
) -> std::result::Result<(), sqlx::Error> {
    let mut tx = conn.begin_with(AssertSqlSafe(BEGIN)).await?;
    sqlx::query(MARK).bind(seq).fetch_one(&mut *tx).await?;
    if inserts {
        sqlx::query(INSERT).bind(seq).bind(NOTE).execute(&mut *tx).await?;
    }
    sqlx::raw_sql(CLOSE).fetch_one(&mut *tx).await?;
    tx.commit().await
}
