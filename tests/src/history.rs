//! What operators ask reads little of what retention keeps, counted by the database itself: a page, a span of time, a key,
//! and never the history. In CI of a hundred thousand rows a table, with `./tests/run --long` of five million.

mod mysql;
mod postgres;
mod sqlite;

use std::future::Future;
use std::time::Duration;

use distributed_events::admin::{self, DeadRowFilter, Retention, RowFilter, RowState, Table};
use distributed_events::{EventId, StorageError};
use sqlx::Pool;
use uuid::Uuid;

use crate::conformance::Fixture;
use crate::is_long;

/// How long the rows are kept, from the oldest to now.
const KEPT: Duration = Duration::from_secs(10 * 24 * 3600);

/// Open rows of each state beside them.
const OPEN: u64 = 100;

/// A database that counts what is read of it.
pub trait Retaining: Fixture {
    /// What the counting needs.
    type Meter: Send + Sync;

    /// What the unit of counting makes of a row.
    const PER_ROW: u64;

    /// The statements that fill both tables with so many rows that were settled in equal distances over the time, the
    /// newest first, each with its number as its id, and with a few open ones; and then look at them, as a database does
    /// by and by.
    fn filling(rows: u64, open: u64, kept: Duration) -> Vec<String>;

    /// A pool of one connection, on which what is read is counted.
    fn metered(&self) -> impl Future<Output = (Pool<Self::DB>, Self::Meter)> + Send;

    /// How much was read on it since it was opened.
    fn read_so_far(&self, pool: &Pool<Self::DB>, meter: &Self::Meter) -> impl Future<Output = u64> + Send;
}

/// An event by its number.
fn id_of(number: u64) -> EventId {
    EventId::from_uuid(Uuid::from_u128(u128::from(number)))
}

/// What a database's test calls.
pub async fn operators_read_little_of_what_is_retained<F: Retaining>() {
    let rows: u64 = if is_long() { 5_000_000 } else { 100_000 };
    let fixture = F::fresh().await;
    let began = std::time::Instant::now();
    for sql in F::filling(rows, OPEN, KEPT) {
        fixture.execute(&sql).await;
    }
    println!("{rows} rows a table: filled in {:?}", began.elapsed());
    let (pool, meter) = fixture.metered().await;
    let asked = Asked { fixture: &fixture, pool: &pool, meter };
    let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    let per_hour = rows / (KEPT.as_secs() / 3600);
    let now = admin::clock(&pool).await.unwrap();

    for table in [Table::Outbox, Table::Inbox] {
        for state in [RowState::Pending, RowState::Delayed, RowState::Dead] {
            let filter = RowFilter::whenever(state);
            let list = admin::list_rows(&pool, table, &filter);
            let found = asked.within(&format!("{table:?} {state:?}"), 4 * OPEN, list).await;
            let is_empty = (table, state) == (Table::Inbox, RowState::Delayed);
            assert_eq!(found.len() as u64, if is_empty { 0 } else { OPEN });
        }
        let recent = RowFilter::new(RowState::Settled, now - hour);
        asked.within("the latest of an hour", 500, admin::list_rows(&pool, table, &recent)).await;
        let mut none = recent.clone();
        none.event = Some("not there".to_owned());
        let found =
            asked.within("none of an hour", 3 * per_hour + 500, admin::list_rows(&pool, table, &none)).await;
        assert_eq!(found.len(), 0);
        let filter = DeadRowFilter::default();
        asked.within("dead rows", 4 * OPEN, admin::dead_rows(&pool, table, &filter)).await;
        asked.within("a minute", per_hour / 10 + 1_000, admin::throughput(&pool, table, minute)).await;
        let whole = admin::settled_between(&pool, table, now - KEPT, now);
        let span = asked.within("all of it in a chart", 26_000, whole).await;
        // Estimated, and about as many as there are.
        assert!((span.settled as f64 / rows as f64 - 1.0).abs() < 0.1, "{span:?}");
    }
    asked.within("the outbox's depths and ages", 12 * OPEN, admin::count_outbox(&pool)).await;
    asked.within("the inbox's depths and ages", 12 * OPEN, admin::count_inbox(&pool)).await;
    asked.within("subscriptions", 100, admin::subscriptions_received(&pool)).await;
    let middle = id_of(rows / 2);
    assert!(asked.within("an outbox row", 50, admin::outbox_row(&pool, middle)).await.is_some());
    assert_eq!(asked.within("an inbox row", 100, admin::inbox_rows(&pool, middle)).await.len(), 1);
    let chain = asked.within("what an event belongs to", 50_000, admin::chain(&pool, middle)).await.unwrap();
    assert_eq!(chain.links.len(), 1);

    let (dead, none) = (RowFilter::whenever(RowState::Dead), Duration::ZERO);
    for table in [Table::Outbox, Table::Inbox] {
        let seqs: Vec<_> =
            admin::list_rows(&pool, table, &dead).await.unwrap().iter().map(|row| row.seq).collect();
        let (requeued, discarded) = seqs.split_at(10);
        let done = asked.within("requeue", 1_000, admin::requeue(&pool, table, requeued, none)).await;
        assert_eq!(done, 10);
        asked.within("discard", 2_000, admin::discard(&pool, table, discarded)).await;
    }
    let span = admin::resend_between(&pool, now - hour, now - hour + minute, None);
    asked.within("a minute sent again", per_hour + 1_000, span).await;
    let old = Retention::Outbox { older_than: KEPT / 2, limit: 1_000 };
    assert_eq!(asked.within("a slice of what is old", 20_000, admin::purge(&pool, &old)).await, 1_000);
}

struct Asked<'a, F: Retaining> {
    fixture: &'a F,
    pool: &'a Pool<F::DB>,
    meter: F::Meter,
}

impl<F: Retaining> Asked<'_, F> {
    /// Asks, and reads no more rows for it than this.
    async fn within<T>(
        &self,
        what: &str,
        most: u64,
        ask: impl Future<Output = Result<T, StorageError>>,
    ) -> T {
        let before = self.fixture.read_so_far(self.pool, &self.meter).await;
        let found = ask.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let read = self.fixture.read_so_far(self.pool, &self.meter).await - before;
        println!("{what}: {read} of {}", most * F::PER_ROW);
        assert!(
            read <= most * F::PER_ROW,
            "{what}: {read} were read, instead of {} at most",
            most * F::PER_ROW
        );
        found
    }
}
