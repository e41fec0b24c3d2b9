//! A backlog takes time and no memory.

use std::process::Stdio;

use distributed_events::storage::{Body, IncomingEvent, Storage, Table};
use distributed_events::{DistributedEvent, EventId};
use tokio::process::Command;

use super::Shared;
use super::program::{Bulky, SUBSCRIPTION};
use crate::programs::program;

/// What the peaks of two drains may differ by for reasons that are not the backlog, in KiB: which of the runtime's threads
/// and of the database's caches were at work at the same time. The smaller backlog is long enough for nearly all of that to
/// have met once, and the bodies alone that the larger has more of are four times as much. The long run allows for nothing.
const NOISE: u64 = 5 * 1024;

/// From the outbox to a broker.
pub async fn an_outbox_is_drained_with_flat_memory<F: Shared>() {
    flat::<F>(Table::Outbox).await;
}

/// From the inbox to a handler.
pub async fn an_inbox_is_drained_with_flat_memory<F: Shared>() {
    flat::<F>(Table::Inbox).await;
}

async fn flat<F: Shared>(table: Table) {
    let (few, many, noise) = if crate::is_long() { (100_000, 1_000_000, 0) } else { (10_000, 30_000, NOISE) };
    let (small, large) = (peak_of::<F>(table, few).await, peak_of::<F>(table, many).await);
    println!("{table:?}: {few} rows: {small} KiB at most; {many} rows: {large} KiB at most");
    let most = small + small / 10 + noise;
    assert!(large <= most, "{many} rows took {large} KiB, {few} rows {small}: above {most}");
}

/// The most memory that a process of its own held while it drained so many rows.
async fn peak_of<F: Shared>(table: Table, count: i64) -> u64 {
    let fixture = F::fresh().await;
    fixture.execute(F::EFFECTS).await;
    fill(&fixture, table, count).await;
    let name = if table == Table::Inbox { "inbox" } else { "outbox" };
    let child = Command::new(program("drain"))
        .args([&fixture.url(), name, &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");

    // It has done all of it, and once.
    let good = format!("SELECT count(*) FROM {name} WHERE status IN ('sent', 'processed')");
    assert_eq!(fixture.number(&good).await, count);
    if table == Table::Inbox {
        assert_eq!(fixture.number("SELECT count(*) FROM effects").await, count);
        assert_eq!(fixture.number("SELECT count(DISTINCT n) FROM effects").await, count);
    }
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

async fn fill<F: Shared>(fixture: &F, table: Table, count: i64) {
    let mut conn = fixture.conn().await;
    for start in (0..count).step_by(1000) {
        let events: Vec<_> = (start..count.min(start + 1000)).map(Bulky::new).collect();
        if table == Table::Outbox {
            let mut tx = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
            Bulky::publish_all(&mut tx, &events).await.unwrap();
            tx.commit().await.unwrap();
        } else {
            let events: Vec<_> = events.iter().map(received).collect();
            F::DB::ingest(&mut *conn, SUBSCRIPTION, &events).await.unwrap();
        }
    }
}

fn received(event: &Bulky) -> IncomingEvent {
    let body = Body::Text(serde_json::to_string(event).unwrap());
    let mut incoming = IncomingEvent::new(EventId::new(), Bulky::NAME, body);
    incoming.session_id = event.session_id();
    incoming
}
