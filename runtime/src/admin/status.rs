//! Who holds what, who lives, and how fast it goes.

use std::time::Duration;

use sqlx::Pool;

use crate::storage::{InstanceStatus, LeaseStatus, OperatorStorage, StorageError, Table, Throughput};

/// The SQL that [`EventBus::migrate`](crate::EventBus::migrate) runs on an empty database, for a team that applies all
/// migrations with a tool of its own.
#[must_use]
pub fn migration_sql<DB: OperatorStorage>() -> String {
    DB::migration_sql()
}

/// All leases: who leads the outbox of each lane, and who works on which shards of each subscription.
///
/// # Errors
/// When the database refuses.
pub async fn leases<DB: OperatorStorage>(pool: &Pool<DB>) -> Result<Vec<LeaseStatus>, StorageError> {
    DB::lease_statuses(&mut *pool.acquire().await?).await
}

/// The instances that live and what they handle.
///
/// # Errors
/// When the database refuses.
pub async fn instances<DB: OperatorStorage>(pool: &Pool<DB>) -> Result<Vec<InstanceStatus>, StorageError> {
    DB::live_instances(&mut *pool.acquire().await?).await
}

/// How much was sent or processed within the last `within`, and how long it had waited. Costs as much as that time has
/// rows: a minute is meant.
///
/// # Errors
/// When the database refuses.
pub async fn throughput<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    within: Duration,
) -> Result<Throughput, StorageError> {
    let mut conn = pool.acquire().await?;
    let now = DB::clock(&mut *conn).await?;
    let since = now.checked_sub(within).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    // What is settled in this very millisecond counts, too.
    DB::throughput(&mut *conn, table, since, now + Duration::from_millis(1), u32::MAX).await
}

/// The subscriptions that the inbox has a row of, open or settled.
///
/// # Errors
/// When the database refuses.
pub async fn subscriptions_received<DB: OperatorStorage>(
    pool: &Pool<DB>,
) -> Result<Vec<String>, StorageError> {
    received::<DB>(&mut *pool.acquire().await?).await
}

pub(super) async fn received<DB: OperatorStorage>(
    conn: &mut DB::Connection,
) -> Result<Vec<String>, StorageError> {
    let mut found: Vec<String> = Vec::new();
    while let Some(next) = DB::next_subscription(conn, found.last().map_or("", String::as_str)).await? {
        found.push(next);
    }
    Ok(found)
}
