//! How far the events of a database have come.

use sqlx::Pool;

use super::{Db, ID};
use crate::Failure;
use crate::settling::Row;

pub(crate) async fn outbox(pool: &Pool<Db>) -> Result<Vec<Row>, Failure> {
    rows(pool, "outbox").await
}

pub(crate) async fn inbox(pool: &Pool<Db>) -> Result<Vec<Row>, Failure> {
    rows(pool, "inbox").await
}

async fn rows(pool: &Pool<Db>, table: &str) -> Result<Vec<Row>, Failure> {
    let text = sqlx::AssertSqlSafe(format!("SELECT {ID}, event_type, status FROM {table}"));
    let rows: Vec<(String, String, String)> = sqlx::query_as(text).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(id, event, status)| Row { id, event, status }).collect())
}
