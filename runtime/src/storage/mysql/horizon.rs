//! When a missing sequence number is gone for good (rule 2).

use sqlx::MySqlConnection;

use crate::storage::StorageError;

/// How long a transaction may stay open and keep its place: a sequence number is taken when a row is written and seen when
/// the transaction commits, and what lies between can only be waited for.
const HOLD: i64 = 60_000;

const NOW: &str = concat!("SELECT ", now!());

/// A time by the database's clock, in milliseconds.
#[derive(Clone, Debug)]
pub struct Horizon(i64);

pub(super) async fn take(conn: &mut MySqlConnection) -> Result<Horizon, StorageError> {
    Ok(Horizon(sqlx::query_scalar(NOW).fetch_one(conn).await?))
}

pub(super) async fn has_passed(conn: &mut MySqlConnection, horizon: &Horizon) -> Result<bool, StorageError> {
    let now: i64 = sqlx::query_scalar(NOW).fetch_one(conn).await?;
    Ok(now - horizon.0 >= HOLD)
}
