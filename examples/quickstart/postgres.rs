//! The quickstart on PostgreSQL: a database for each service, on one server.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool};

use crate::Failure;

/// The services are written once; each database compiles them with its own transactions.
pub(crate) type Db = sqlx::Postgres;

#[path = "billing.rs"]
mod billing;
#[path = "exchange.rs"]
mod exchange;
#[path = "ordering.rs"]
mod ordering;
#[path = "report.rs"]
mod report;

pub(crate) async fn run(url: &str, input: &str) -> Result<bool, Failure> {
    let server: PgConnectOptions = url
        .parse()
        .map_err(|error| format!("--postgres needs a URL like postgres://user@host/database: {error}"))?;
    let ordering_db = open(&server, "quickstart_ordering", "CREATE DATABASE quickstart_ordering").await?;
    let billing_db = open(&server, "quickstart_billing", "CREATE DATABASE quickstart_billing").await?;
    exchange::run(ordering_db, billing_db, input).await
}

/// Opens a service's database, which is made if there is none.
async fn open(server: &PgConnectOptions, name: &str, create: &'static str) -> Result<PgPool, Failure> {
    let failed = |error| format!("the database {name} can't be opened or made: {error}");
    let mut conn = server.connect().await.map_err(failed)?;
    let there = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(name);
    if there.fetch_optional(&mut conn).await.map_err(failed)?.is_none() {
        sqlx::raw_sql(create).execute(&mut conn).await.map_err(failed)?;
    }
    Ok(PgPool::connect_with(server.clone().database(name)).await.map_err(failed)?)
}

/// PostgreSQL numbers its placeholders.
pub(crate) const fn sql(text: &'static str) -> &'static str {
    text
}
