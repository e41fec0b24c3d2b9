//! The drain and the processing on the other databases, each beside itself alone: how durable their commits are differs, so
//! they are never put beside each other.

use std::path::Path;
use std::time::{Duration, Instant};

use distributed_events::storage::{PoolSettings, Storage};
use distributed_events::{DistributedEvent, EventBus, HandlerSettings, InboxSettings, OutboxSettings};
use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, Pool, Row, Sqlite};

use super::drain::drain;
use super::processing::{SUBSCRIPTION, received};
use super::{Bench, beside_at_once};
use crate::Result;
use crate::broker::Null;
use crate::event::OrderPlaced;
use crate::report::Row as Line;
use crate::server::Server;
use crate::statistics::{Pair, Target};

const READ: &str = "SELECT seq, id, event_type, event_version, event_data, topic, lane, session_id, correlation_id, \
    causation_id, headers FROM outbox WHERE lane = 'default' AND status = 'pending' AND deliver_at IS NULL AND seq > ? \
    ORDER BY seq LIMIT 500";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let folder = bench.folder.clone();
    on::<Sqlite>(bench, "SQLite, WAL, FULL", async || sqlite(&folder).await, pages_of_sqlite).await?;
    let server = Server::start("mariadb", &folder)?;
    let case = mariadb_as_it_is(&server).await?;
    on::<MySql>(bench, &case, async || mariadb(&server).await, pages_of_mariadb).await
}

/// Both comparisons on a database, fresh for each.
async fn on<DB: Storage>(
    bench: &mut Bench,
    name: &str,
    fresh: impl AsyncFn() -> Result<Pool<DB>>,
    read: impl AsyncFn(Pool<DB>) -> Result<i64>,
) -> Result<()> {
    let (events, scaled) = bench.size(100_000, 10_000, "events");
    let rounds = bench.rounds_of(false);
    for (what, delete) in [("delete", true), ("keep", false)] {
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            let pool = fresh().await?;
            publish(&pool, events).await?;
            let begun = Instant::now();
            if read(pool.clone()).await? != events {
                return Err("not all rows were read".into());
            }
            let floor = events as f64 / begun.elapsed().as_secs_f64();
            let library = DB::open(&pool, &PoolSettings::new(4, Duration::from_secs(5))).await?;
            let settings = OutboxSettings::default().batch_size(500);
            let settings = if delete { settings.delete_sent() } else { settings };
            let broker = Null::new(Duration::ZERO);
            let taken = drain(library.clone(), &broker, &settings, u64::try_from(events)?).await?;
            library.close().await;
            pool.close().await;
            pairs.push(Pair { subject: events as f64 / taken, floor });
        }
        let case = format!("{name}: drain, {what}");
        let row = Line::compared("databases", case, "events/s", &pairs, "keyset pages of 500");
        bench.report.row(row.scaled(scaled.clone()));
    }
    let (few, scaled) = bench.size(6_000, 1_000, "events");
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        let floor = processed(fresh().await?, few, 1).await?;
        pairs.push(Pair { subject: processed(fresh().await?, few * 5, 50).await?, floor });
    }
    let case = format!("{name}: batch 50, no-op, 1 worker");
    let row = Line::compared("databases", case, "events/s", &pairs, "the same per message");
    bench.report.row(row.target(Target::AtLeast(3.0)).scaled(scaled));
    Ok(())
}

async fn publish<DB: Storage>(pool: &Pool<DB>, events: i64) -> Result<()> {
    for start in (0..events).step_by(500) {
        let events: Vec<_> = (start..events.min(start + 500)).map(OrderPlaced::new).collect();
        let mut tx = pool.begin_with(DB::BEGIN).await?;
        OrderPlaced::publish_all(&mut tx, &events).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Events in a second from the first that is processed to the last.
async fn processed<DB: Storage>(pool: Pool<DB>, events: i64, batch: u32) -> Result<f64> {
    let mut conn = pool.acquire().await?;
    for start in (0..events).step_by(500) {
        let events = (start..events.min(start + 500)).map(received).collect::<Result<Vec<_>>>()?;
        DB::ingest(&mut conn, SUBSCRIPTION, &events).await?;
    }
    drop(conn);
    let bus = EventBus::builder(pool.clone())
        .broker(Null::new(Duration::ZERO))
        .inbox(InboxSettings::default().workers(1))
        .on(HandlerSettings::new(SUBSCRIPTION).batch(batch), |_: OrderPlaced, _tx, _context| {
            Box::pin(async { Ok(()) })
        })
        .build()?;
    let (all, mut rate) = (u64::try_from(events)?, f64::NAN);
    let watched = bus.clone();
    let measured = async {
        let mut first = None;
        loop {
            let done = watched.stats().processed;
            let (before, begun) = *first.get_or_insert_with(|| (done, Instant::now()));
            if done >= all {
                rate = (done - before) as f64 / begun.elapsed().as_secs_f64();
                return Ok(());
            }
            if before == 0 {
                first = None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    beside_at_once(&bus, measured).await?;
    pool.close().await;
    Ok(rate)
}

async fn sqlite(folder: &Path) -> Result<Pool<Sqlite>> {
    let file = folder.join(format!("{}.db", uuid::Uuid::new_v4().simple()));
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
    EventBus::migrate(&pool).await?;
    Ok(pool)
}

async fn mariadb(server: &Server) -> Result<Pool<MySql>> {
    let options: MySqlConnectOptions = server.url().parse()?;
    let mut conn = options.connect().await?;
    let name = format!("cell_{}", uuid::Uuid::new_v4().simple());
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut conn).await?;
    conn.close().await?;
    let pool = MySqlPoolOptions::new().max_connections(2).connect_with(options.database(&name)).await?;
    EventBus::migrate(&pool).await?;
    Ok(pool)
}

/// Its version and how durable its commits are.
async fn mariadb_as_it_is(server: &Server) -> Result<String> {
    let mut conn = server.url().parse::<MySqlConnectOptions>()?.connect().await?;
    let version: String = sqlx::query_scalar("SELECT version()").fetch_one(&mut conn).await?;
    let flush: i64 = sqlx::query_scalar("SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)")
        .fetch_one(&mut conn)
        .await?;
    conn.close().await?;
    let version = version.split('-').next().unwrap_or_default();
    Ok(format!("MariaDB {version}, flush_log {flush}"))
}

/// Stamps out one reader for each database, since sqlx's rows have no common type.
macro_rules! pages {
    ($name:ident, $database:ty) => {
        async fn $name(pool: Pool<$database>) -> Result<i64> {
            let mut conn = pool.acquire().await?;
            let (mut after, mut count) = (0_i64, 0);
            loop {
                let mut rows = sqlx::query(READ).bind(after).fetch(&mut *conn);
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
                if count == before {
                    return Ok(count);
                }
            }
        }
    };
}

pages!(pages_of_sqlite, Sqlite);
pages!(pages_of_mariadb, MySql);

type Event = (
    (Vec<u8>, String, i64, String),
    (Option<String>, String, Option<String>, Option<String>),
    (Option<String>, String),
);
