//! Ordering on PostgreSQL: a database on that server.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};

use crate::Failure;

/// Ordering is written once; each database compiles it with its own transactions.
pub(crate) type Db = sqlx::Postgres;

#[path = "audit.rs"]
mod audit;
#[path = "commands.rs"]
pub(crate) mod commands;
#[path = "ordering.rs"]
mod ordering;
#[path = "way.rs"]
mod way;

/// An event's id as text.
pub(crate) const ID: &str = "replace(CAST(id AS TEXT), '-', '')";

/// Opens ordering's database, which is made if there is none.
pub(crate) async fn open(url: &str, directory: &Path) -> Result<PgPool, Failure> {
    let server: PgConnectOptions = url
        .parse()
        .map_err(|error| format!("--postgres needs a URL like postgres://user@host/database: {error}"))?;
    let name = name(directory)?;
    let failed = |error| format!("the database {name} can't be opened or made: {error}");
    let mut conn = server.connect().await.map_err(failed)?;
    let there = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(&name);
    if there.fetch_optional(&mut conn).await.map_err(failed)?.is_none() {
        let create = AssertSqlSafe(format!("CREATE DATABASE \"{name}\""));
        sqlx::raw_sql(create).execute(&mut conn).await.map_err(failed)?;
    }
    Ok(PgPool::connect_with(server.clone().database(&name)).await.map_err(failed)?)
}

/// Kept beside billing's file, because the two belong together: where the directory is deleted, ordering begins anew as
/// well, in a database of another name.
fn name(directory: &Path) -> Result<String, Failure> {
    let path = directory.join("ordering-database");
    if let Ok(name) = std::fs::read_to_string(&path) {
        return Ok(name);
    }
    let name = format!("two_services_{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    let whole = directory.join("ordering-database.new");
    std::fs::write(&whole, &name)?;
    std::fs::rename(whole, path)?;
    Ok(name)
}

/// PostgreSQL numbers its placeholders.
pub(crate) const fn sql(text: &'static str) -> &'static str {
    text
}
