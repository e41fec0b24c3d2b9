//! MariaDB and MySQL: reads of entries of indexes and of rows.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySql, Pool, Row as _};

use super::Retaining;
use crate::conformance::Fixture as _;
use crate::fixtures::MySqlDatabase;

const NOW: &str = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";
/// Rows of one transaction: a server's log is not made for more.
const SLICE: u64 = 500_000;

impl Retaining for MySqlDatabase {
    type Meter = ();

    /// An entry of an index, the row that it leads to, and both again where they pass through a temporary table.
    const PER_ROW: u64 = 4;

    fn filling(rows: u64, open: u64, kept: Duration) -> Vec<String> {
        let step = kept.as_millis() as f64 / rows as f64;
        let number = "unhex(lpad(hex(seq), 32, '0'))";
        let settled = format!("{NOW} - CAST(seq * {step} AS SIGNED)");
        let mut all = Vec::new();
        for first in (1..=rows).step_by(SLICE as usize) {
            let last = (first + SLICE - 1).min(rows);
            all.push(format!(
                "INSERT INTO outbox (id, event_type, event_data, created_at, processed_at, status) \
                 SELECT {number}, 'e', '{{}}', {settled} - 1000, {settled}, 'sent' FROM seq_{first}_to_{last}"
            ));
            all.push(format!(
                "INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, received_at, processed_at, \
                 status) SELECT 's', {number}, seq, 'e', '{{}}', seq % 64, {settled} - 1000, {settled}, 'processed' \
                 FROM seq_{first}_to_{last}"
            ));
        }
        let random = "unhex(md5(concat('open', seq)))";
        all.push(format!(
            "INSERT INTO outbox (id, event_type, event_data, status, processed_at, deliver_at) \
             SELECT {random}, 'e', '{{}}', if(seq % 3 = 0, 'dead', 'pending'), if(seq % 3 = 0, {NOW}, NULL), \
             if(seq % 3 = 1, {NOW} + 3600000, NULL) FROM seq_1_to_{}",
            3 * open
        ));
        all.push(format!(
            "INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard, status, processed_at) \
             SELECT 's', {random}, seq, 'e', '{{}}', seq % 64, if(seq % 2 = 0, 'dead', 'pending'), \
             if(seq % 2 = 0, {NOW}, NULL) FROM seq_1_to_{}",
            2 * open
        ));
        all.push("ANALYZE TABLE outbox, inbox".to_owned());
        all
    }

    async fn metered(&self) -> (Pool<MySql>, ()) {
        (self.another_pool().await, ())
    }

    async fn read_so_far(&self, pool: &Pool<MySql>, (): &()) -> u64 {
        let rows = sqlx::raw_sql(AssertSqlSafe("SHOW SESSION STATUS LIKE 'Handler_read%'")).fetch_all(pool);
        let read = |row: &sqlx::mysql::MySqlRow| row.get_unchecked::<String, _>(1).parse::<u64>().unwrap();
        rows.await.unwrap().iter().map(read).sum()
    }
}
