//! What an event adds to a transaction, beside the same transaction without it.

use std::time::{Duration, Instant};

use distributed_events::{DistributedEvent, EventId};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use tokio::task::JoinSet;

use super::{Bench, interleaved, looks};
use crate::Result;
use crate::event::OrderPlaced;
use crate::floors::{INSERT, NOTE};
use crate::report::Row;
use crate::statistics::Target;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let window = Duration::from_millis(if bench.quick { 700 } else { 3000 });
    // Shorter rounds, and more of them: what disturbs a disk comes and goes within seconds.
    for events in [1, 10] {
        for clients in [1, 8, 32] {
            let rounds = if clients == 8 { bench.rounds * 2 } else { bench.rounds };
            let cell = bench.server.fresh().await?;
            let pool = cell.pool(clients).await?;
            // Connections, statements and pages that come first are not what is measured.
            transactions(&pool, clients, events, Writer::Library, window / 4).await?;
            let subject = async || transactions(&pool, clients, events, Writer::Library, window).await;
            let floor = async || transactions(&pool, clients, 0, Writer::Library, window).await;
            let pairs = interleaved(rounds, subject, floor).await?;
            let written = if events == 1 { "1 event".to_owned() } else { format!("{events} events") };
            let case = format!("{written}, {clients} connections");
            let floor = "one business row, no event";
            let scaled = bench.quick.then(|| "0.7 s a round instead of 3".to_owned());
            let row = Row::compared("publish", case, "transactions/s", &pairs, floor).scaled(scaled.clone());
            let least = if events == 1 { 0.85 } else { 0.60 };
            bench.report.row(if clients == 8 { row.target(Target::AtLeast(least)) } else { row });
            if clients == 8 {
                let by_hand = async || transactions(&pool, clients, events, Writer::Hand, window).await;
                let pairs = interleaved(bench.rounds, subject, by_hand).await?;
                let (case, floor) =
                    (format!("{written}, of which"), "the same rows by an INSERT of one's own");
                let row = Row::compared("publish", case, "transactions/s", &pairs, floor);
                bench.report.row(row.scaled(scaled));
            }
            pool.close().await;
            cell.drop().await?;
        }
    }
    Ok(())
}

/// So many events a transaction, by 8 clients, for three seconds: how many transactions there were.
pub(super) async fn published(pool: &PgPool, events: i64) -> Result<f64> {
    let window = Duration::from_secs(3);
    transactions(pool, 8, events, Writer::Library, window / 4).await?;
    looks::lit(counted(pool, 8, events, Writer::Library, window)).await?
}

/// Who writes the events.
#[derive(Clone, Copy)]
enum Writer {
    Library,
    /// A statement of one's own into the same table: what the rows themselves cost.
    Hand,
}

/// Transactions in a second: one business row and so many events, by so many clients.
async fn transactions(
    pool: &PgPool,
    clients: u32,
    events: i64,
    writer: Writer,
    window: Duration,
) -> Result<f64> {
    let begun = Instant::now();
    let count = counted(pool, clients, events, writer, window).await?;
    Ok(count / begun.elapsed().as_secs_f64())
}

async fn counted(pool: &PgPool, clients: u32, events: i64, writer: Writer, window: Duration) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let pool = pool.clone();
        tasks.spawn(async move {
            let events = OrderPlaced::several(events);
            let mut count = 0_u32;
            while begun.elapsed() < window {
                let mut tx = pool.begin().await?;
                sqlx::query(INSERT).bind(i64::from(client)).bind(NOTE).execute(&mut *tx).await?;
                match (writer, events.as_slice()) {
                    (_, []) => {}
                    (Writer::Hand, events) => by_hand(&mut tx, events).await?,
                    (Writer::Library, [event]) => drop(event.publish(&mut tx).await?),
                    (Writer::Library, events) => drop(OrderPlaced::publish_all(&mut tx, events).await?),
                }
                tx.commit().await?;
                count += 1;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(f64::from(count))
}

/// All of them by one statement, with what the library fills in.
async fn by_hand(conn: &mut PgConnection, events: &[OrderPlaced]) -> Result<()> {
    let columns = "INSERT INTO outbox (id, event_type, event_version, event_data, topic, lane, correlation_id, headers) ";
    let rows = events.iter().map(|event| Ok((EventId::new(), serde_json::to_string(event)?)));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let mut insert = QueryBuilder::<Postgres>::new(columns);
    insert.push_values(rows, |mut row, (id, data)| {
        row.push_bind(id.as_uuid()).push_bind(OrderPlaced::NAME).push_bind(1_i64).push_bind(data);
        row.push_bind("orders").push_bind("default").push_bind(id.to_string()).push_bind("{}");
    });
    insert.build().execute(conn).await?;
    Ok(())
}
