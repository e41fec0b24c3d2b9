//! SQLite: steps of its virtual machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Pool, Sqlite};

use super::Retaining;
use crate::fixtures::File;

const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
/// Steps are counted in so many.
const STEPS: i32 = 10;

impl Retaining for File {
    type Meter = Arc<AtomicU64>;

    /// What an expression of a filter takes for each row, with all its columns.
    const PER_ROW: u64 = 20;

    fn filling(rows: u64, open: u64, kept: Duration) -> Vec<String> {
        let step = kept.as_millis() as f64 / rows as f64;
        let number = "unhex(printf('%032x', n))";
        let settled = format!("{NOW} - CAST(n * {step} AS INTEGER)");
        let series = |last: u64| {
            format!("WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {last})")
        };
        let (all, open_outbox, open_inbox) = (series(rows), series(3 * open), series(2 * open));
        vec![
            format!(
                "{all} INSERT INTO outbox (id, event_type, event_data, created_at, processed_at, status) \
                 SELECT {number}, 'e', '{{}}', {settled} - 1000, {settled}, 'sent' FROM s"
            ),
            format!(
                "{all} INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, received_at, \
                 processed_at, status) SELECT 's', {number}, n, 'e', '{{}}', n % 64, {settled} - 1000, {settled}, \
                 'processed' FROM s"
            ),
            format!(
                "{open_outbox} INSERT INTO outbox (id, event_type, event_data, status, processed_at, deliver_at) \
                 SELECT randomblob(16), 'e', '{{}}', iif(n % 3 = 0, 'dead', 'pending'), iif(n % 3 = 0, {NOW}, NULL), \
                 iif(n % 3 = 1, {NOW} + 3600000, NULL) FROM s"
            ),
            format!(
                "{open_inbox} INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, \
                 processed_at) SELECT 's', randomblob(16), n, 'e', '{{}}', n % 64, iif(n % 2 = 0, 'dead', 'pending'), \
                 iif(n % 2 = 0, {NOW}, NULL) FROM s"
            ),
            "ANALYZE".to_owned(),
        ]
    }

    async fn metered(&self) -> (Pool<Sqlite>, Arc<AtomicU64>) {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let options = SqlitePoolOptions::new().max_connections(1).after_connect(move |conn, _| {
            let counted = Arc::clone(&counted);
            Box::pin(async move {
                conn.lock_handle().await?.set_progress_handler(STEPS, move || {
                    counted.fetch_add(STEPS.unsigned_abs().into(), Ordering::Relaxed);
                    true
                });
                Ok(())
            })
        });
        (options.connect_with(self.options()).await.unwrap(), steps)
    }

    async fn read_so_far(&self, _pool: &Pool<Sqlite>, steps: &Arc<AtomicU64>) -> u64 {
        steps.load(Ordering::Relaxed)
    }
}
