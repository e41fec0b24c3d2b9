//! Counting and reconciling; nothing here is needed to exchange events.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use distributed_events::admin::{self, DeadRowFilter, Table};
use distributed_events::{EventBus, Stats};
use sqlx::Pool;

use super::Db;
use super::ordering::Placed;
use crate::{Failure, books};

/// How long events took from the publisher's commit to the end of their handler.
#[derive(Clone, Default)]
pub(crate) struct Latencies {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    committed: HashMap<i64, Instant>,
    taken: Vec<Duration>,
}

impl Latencies {
    pub(crate) fn committed(&self, order_id: i64) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).committed.insert(order_id, Instant::now());
    }

    pub(crate) fn handled(&self, order_id: i64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(committed) = inner.committed.remove(&order_id) {
            inner.taken.push(committed.elapsed());
        }
    }

    fn taken(&self) -> Vec<Duration> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).taken.clone()
    }
}

/// Shows on a terminal what is going on, until it is dropped.
pub(crate) async fn progress(ordering: &EventBus<Db>, billing: &EventBus<Db>) -> std::convert::Infallible {
    let live = std::io::stderr().is_terminal();
    loop {
        if live {
            let (sent, charged, paid) =
                (ordering.stats().sent, billing.stats().processed, ordering.stats().processed);
            eprint!("\rorders sent {sent}, charged {charged}, paid {paid} ");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until no event is on its way: looking along the way an event takes, none can slip past.
pub(crate) async fn wait_until_settled(ordering_db: &Pool<Db>, billing_db: &Pool<Db>) -> Result<(), Failure> {
    loop {
        let mut waiting = 0;
        for (outbox, inbox) in [(ordering_db, billing_db), (billing_db, ordering_db)] {
            let sending = admin::count_outbox(outbox).await?;
            waiting += sending.owed.values().sum::<u64>();
            waiting += sending.lanes.values().map(|lane| lane.pending).sum::<u64>();
            let handling = admin::count_inbox(inbox).await?;
            waiting += handling.subscriptions.values().map(|subscription| subscription.pending).sum::<u64>();
        }
        if waiting == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints the table and the reconciliation; `false` when the books don't agree.
pub(crate) async fn print(
    ordering_db: &Pool<Db>,
    billing_db: &Pool<Db>,
    placed: Placed,
    ordering: &Stats,
    billing: &Stats,
    latencies: &Latencies,
) -> Result<bool, Failure> {
    if std::io::stderr().is_terminal() {
        eprintln!("\n");
    }
    if placed.known + placed.malformed > 0 {
        println!(
            "{} orders were known from an earlier run, {} lines were skipped\n",
            placed.known, placed.malformed
        );
    }
    println!("{}\n{}\n", books::table(ordering, billing), books::latencies(latencies.taken()));
    for dead in admin::dead_rows(billing_db, Table::Inbox, &DeadRowFilter::default()).await? {
        println!("dead: {} of session {}: {}", dead.event, dead.session_id.unwrap_or_default(), dead.reason);
    }
    Ok(books::verdict(&reconcile(ordering_db, billing_db).await?))
}

/// Compares the business tables of the two services, and nothing else.
async fn reconcile(ordering_db: &Pool<Db>, billing_db: &Pool<Db>) -> Result<Vec<String>, Failure> {
    let charges: Vec<(i64, i64)> =
        sqlx::query_as("SELECT order_id, cents FROM charges").fetch_all(billing_db).await?;
    let orders: Vec<books::OrderRow> = sqlx::query_as(
        "SELECT order_id, total_cents, card, paid_cents, payments FROM orders ORDER BY order_id",
    )
    .fetch_all(ordering_db)
    .await?;
    Ok(books::differences(&orders, charges))
}
