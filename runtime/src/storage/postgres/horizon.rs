//! Whether a sequence number that is missing from a read is gone for good (rule 2).

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::row::millis as to_millis;
use crate::storage::StorageError;

/// How long a transaction may take from its sequence number to its transaction id: nextval comes first.
const UNNUMBERED: Duration = Duration::from_secs(1);

/// A transaction that is open for longer keeps its delivery and loses its place.
const HOLD: Duration = Duration::from_secs(60);

/// A read saw everything that was committed at this time.
#[derive(Clone, Debug)]
pub struct Horizon {
    /// Milliseconds since 1970, by the database's clock.
    read_at: i64,
    /// Given out when whoever had a sequence number by then had an id too; so theirs are smaller.
    xid: Option<i64>,
}

/// One message without arguments is one transaction of its own, for PgBouncer too.
pub(super) async fn take(conn: &mut PgConnection) -> Result<Horizon, StorageError> {
    let sql = concat!("SELECT ", millis!("clock_timestamp()"));
    let row = sqlx::raw_sql(sql).fetch_one(conn).await?;
    Ok(Horizon { read_at: row.try_get(0)?, xid: None })
}

/// Only the ids of running transactions are looked at, not their snapshots: readers hold nothing up, while prepared
/// transactions do. `pg_snapshot_xmax` would not do for the id: it is next to the last one *ended*, and some that run have
/// greater ones.
pub(super) async fn has_passed(conn: &mut PgConnection, horizon: &mut Horizon) -> Result<bool, StorageError> {
    let condition = match horizon.xid {
        Some(xid) => format!("pg_snapshot_xmin(pg_current_snapshot()) > '{xid}'::xid8, NULL::bigint"),
        None => format!(
            "false, CASE WHEN waited >= {} THEN pg_current_xact_id()::text::bigint END",
            to_millis(UNNUMBERED)
        ),
    };
    let sql = format!(
        "SELECT waited >= {hold}, {condition} FROM (SELECT {now} - {read_at} AS waited OFFSET 0) AS clock",
        hold = to_millis(HOLD),
        now = millis!("clock_timestamp()"),
        read_at = horizon.read_at,
    );
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await?;
    if horizon.xid.is_none() {
        horizon.xid = row.try_get(2)?;
    }
    Ok(row.try_get(0)? || row.try_get(1)?)
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    /// Whoever takes longer loses its place; until then it keeps it.
    #[tokio::test]
    async fn a_transaction_is_waited_for_as_long_as_the_hold() {
        let url = std::env::var("DISTRIBUTED_EVENTS_POSTGRES").expect("`./tests/run` sets it");
        let (mut conn, mut other) =
            (PgConnection::connect(&url).await.unwrap(), PgConnection::connect(&url).await.unwrap());
        let mut late = other.begin().await.unwrap();
        sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut *late).await.unwrap();
        let now = take(&mut conn).await.unwrap().read_at;
        for (seconds, expected) in [(2, false), (50, false), (61, true)] {
            let mut horizon = Horizon { read_at: now - seconds * 1_000, xid: None };
            for _ in 0..3 {
                let passed = has_passed(&mut conn, &mut horizon).await.unwrap();
                assert_eq!(passed, expected, "{seconds} s after the read");
            }
            assert!(horizon.xid.is_some());
        }
    }

    /// Who had a number and no id one moment ago may have one now.
    #[tokio::test]
    async fn no_id_is_taken_within_a_second() {
        let url = std::env::var("DISTRIBUTED_EVENTS_POSTGRES").expect("`./tests/run` sets it");
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let now = take(&mut conn).await.unwrap().read_at;
        // From ahead, so that no slow machine reaches the second.
        let mut horizon = Horizon { read_at: now + 60_000, xid: None };
        assert!(!has_passed(&mut conn, &mut horizon).await.unwrap());
        assert_eq!(horizon.xid, None);
    }
}
