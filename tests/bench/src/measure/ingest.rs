//! The inbox relay on messages that are ready, beside COPY of the same rows into the same table, a transaction for as many.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use distributed_events::broker::Source;
use distributed_events::storage::shard_of;
use distributed_events::{Broker, DistributedEvent, EventId, InboxRelay, InboxSettings, Shutdown};
use sqlx::PgPool;

use super::{Bench, interleaved, library_pool, looks};
use crate::Result;
use crate::broker::Ready;
use crate::event::{OrderPlaced, delivery};
use crate::report::Row;
use crate::server::Cell;
use crate::statistics::Target;

const COPY: &str = "COPY inbox (subscription, id, message_id, event_type, event_data, shard, topic, created_at, \
    received_at) FROM STDIN";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let (messages, scaled) = bench.size(100_000, 10_000, "messages");
    for batch in [100, 200] {
        let cell = bench.server.fresh().await?;
        let pool = cell.pool(2).await?;
        let subject = async || ingested(&cell, &pool, messages, batch).await;
        let floor = async || copied(&cell, messages, batch).await;
        let pairs = interleaved(bench.rounds_of(batch == 100), subject, floor).await?;
        let case = format!("batch {batch}");
        let floor = format!("COPY of {batch} by a socket");
        let row = Row::compared("ingest", case, "messages/s", &pairs, floor).scaled(scaled.clone());
        bench.report.row(if batch == 100 { row.target(Target::AtLeast(0.85)) } else { row });
        pool.close().await;
        cell.drop().await?;
    }
    Ok(())
}

/// Messages in a second, from the first that is asked for to the last that is settled.
pub(super) async fn ingested(cell: &Cell, pool: &PgPool, messages: i64, batch: usize) -> Result<f64> {
    cell.empty().await?;
    let ready: VecDeque<_> = (0..u64::try_from(messages)?).map(delivery).collect();
    let broker = Ready::new(ready);
    let library = library_pool(pool).await?;
    let (handle, stop) = Shutdown::new();
    let shared: Arc<dyn Broker> = Arc::new(broker.clone());
    let relay = InboxRelay::new(library.clone(), shared, Source::new("orders", "billing"))
        .settings(InboxSettings::default().receive_batch(batch));
    let (relay, seconds) = looks::lit(async {
        let relay = tokio::spawn(relay.run(stop));
        (relay, broker.settled().await)
    })
    .await?;
    handle.stop();
    relay.await?;
    library.close().await;
    let stored = cell.number("SELECT count(*) FROM inbox WHERE status = 'pending'").await?;
    if stored != messages {
        return Err(format!("{stored} of {messages} were stored").into());
    }
    Ok(messages as f64 / seconds)
}

/// Rows in a second by COPY, whose text is there beforehand, over a socket: see [`Cell::connect_locally`].
async fn copied(cell: &Cell, messages: i64, batch: usize) -> Result<f64> {
    cell.empty().await?;
    let texts = texts(messages, batch)?;
    let mut conn = cell.connect_locally().await?;
    let begun = Instant::now();
    for text in &texts {
        let mut copy = conn.copy_in_raw(COPY).await?;
        copy.send(text.as_bytes()).await?;
        copy.finish().await?;
    }
    Ok(messages as f64 / begun.elapsed().as_secs_f64())
}

fn texts(messages: i64, batch: usize) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for start in (0..messages).step_by(batch) {
        let mut text = String::new();
        for n in start..messages.min(start + i64::try_from(batch)?) {
            let (id, name) = (EventId::new(), OrderPlaced::NAME);
            let (shard, data) = (shard_of(&id.to_string()), serde_json::to_string(&OrderPlaced::new(n))?);
            let at = "2026-11-28 12:00:00.000+00";
            writeln!(text, "billing\t{id}\t{id}\t{name}\t{data}\t{shard}\torders\t{at}\t{at}")?;
        }
        texts.push(text);
    }
    Ok(texts)
}
