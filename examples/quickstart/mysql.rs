//! The quickstart on MariaDB or MySQL: a database for each service, on one server.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlPool};

use crate::Failure;

/// The services are written once; each database compiles them with its own transactions.
pub(crate) type Db = sqlx::MySql;

#[path = "billing.rs"]
mod billing;
#[path = "exchange.rs"]
mod exchange;
#[path = "ordering.rs"]
mod ordering;
#[path = "report.rs"]
mod report;

pub(crate) async fn run(url: &str, input: &str) -> Result<bool, Failure> {
    let server: MySqlConnectOptions = url
        .parse()
        .map_err(|error| format!("--mysql needs a URL like mysql://user@host/database: {error}"))?;
    let ordering_db =
        open(&server, "quickstart_ordering", "CREATE DATABASE IF NOT EXISTS quickstart_ordering").await?;
    let billing_db =
        open(&server, "quickstart_billing", "CREATE DATABASE IF NOT EXISTS quickstart_billing").await?;
    exchange::run(ordering_db, billing_db, input).await
}

/// Opens a service's database, which is made if there is none.
async fn open(server: &MySqlConnectOptions, name: &str, create: &'static str) -> Result<MySqlPool, Failure> {
    let failed = |error| format!("the database {name} can't be opened or made: {error}");
    let mut conn = server.connect().await.map_err(failed)?;
    sqlx::raw_sql(create).execute(&mut conn).await.map_err(failed)?;
    Ok(MySqlPool::connect_with(server.clone().database(name)).await.map_err(failed)?)
}

/// MariaDB and MySQL have placeholders without numbers.
pub(crate) fn sql(text: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe((1..=9).fold(text.to_owned(), |text, n| text.replace(&format!("${n}"), "?")))
}
