//! PostgreSQL: entries of indexes, and rows that were found by none.

use std::time::Duration;

use sqlx::{Pool, Postgres};

use super::Retaining;
use crate::conformance::Fixture as _;
use crate::fixtures::PgDatabase;

impl Retaining for PgDatabase {
    type Meter = ();

    const PER_ROW: u64 = 1;

    fn filling(rows: u64, open: u64, kept: Duration) -> Vec<String> {
        let step = kept.as_millis() as f64 / rows as f64;
        let number = "lpad(to_hex(n), 32, '0')::uuid";
        let settled = format!("date_trunc('milliseconds', now() - n * {step} * interval '1 ms')");
        vec![
            format!(
                "INSERT INTO outbox (id, event_type, event_data, created_at, processed_at, status) \
                 SELECT {number}, 'e', '{{}}', {settled} - interval '1 s', {settled}, 'sent' \
                 FROM generate_series(1, {rows}) AS n"
            ),
            format!(
                "INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, received_at, processed_at, \
                 status) SELECT 's', {number}, n, 'e', '{{}}', n % 64, {settled} - interval '1 s', {settled}, 'processed' \
                 FROM generate_series(1, {rows}) AS n"
            ),
            format!(
                "INSERT INTO outbox (id, event_type, event_data, status, processed_at, deliver_at) \
                 SELECT gen_random_uuid(), 'e', '{{}}', CASE n % 3 WHEN 0 THEN 'dead' ELSE 'pending' END, \
                 CASE n % 3 WHEN 0 THEN now() END, CASE n % 3 WHEN 1 THEN now() + interval '1 h' END \
                 FROM generate_series(1, 3 * {open}) AS n"
            ),
            format!(
                "INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, processed_at) \
                 SELECT 's', gen_random_uuid(), n, 'e', '{{}}', n % 64, CASE n % 2 WHEN 0 THEN 'dead' ELSE 'pending' END, \
                 CASE n % 2 WHEN 0 THEN now() END FROM generate_series(1, 2 * {open}) AS n"
            ),
            "VACUUM ANALYZE".to_owned(),
        ]
    }

    async fn metered(&self) -> (Pool<Postgres>, ()) {
        (self.another_pool().await, ())
    }

    async fn read_so_far(&self, pool: &Pool<Postgres>, (): &()) -> u64 {
        // Else it tells once a second at most.
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
        let read = "SELECT ((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('outbox', 'inbox')) \
            + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('outbox', 'inbox')))::bigint";
        self.number(read).await.unsigned_abs()
    }
}
