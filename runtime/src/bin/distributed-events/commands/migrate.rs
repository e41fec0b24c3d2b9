//! The tables: created, or printed as SQL.

use distributed_events::{EventBus, admin};
use serde_json::json;

use super::{FEW, database_of};
use crate::arguments::{General, Migrate};
use crate::database::{Kind, on_database};
use crate::failure::Failure;
use crate::output::{self, Format};

pub(super) async fn run(general: &General, arguments: &Migrate, format: Format) -> Result<(), Failure> {
    if arguments.print {
        let kind = match arguments.dialect {
            Some(kind) => kind,
            None => database_of(general)?.kind(),
        };
        let sql = sql(kind)?;
        return match format {
            Format::People => output::say(&sql),
            Format::Json => output::json(&json!({ "database": kind.feature(), "sql": sql })),
        };
    }
    let mut url = database_of(general)?;
    if arguments.create {
        url = url.creating();
    }
    on_database!(&url, FEW, |pool| {
        EventBus::migrate(&pool).await?;
        super::check(&pool).await
    })?;
    match format {
        Format::People => output::say(&format!("the tables of {url} are up to date")),
        Format::Json => output::json(&json!({ "migrated": url.to_string() })),
    }
}

fn sql(kind: Kind) -> Result<String, Failure> {
    match kind {
        #[cfg(feature = "postgres")]
        Kind::Postgres => Ok(admin::migration_sql::<sqlx::Postgres>()),
        #[cfg(feature = "mysql")]
        Kind::Mysql => Ok(admin::migration_sql::<sqlx::MySql>()),
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => Ok(admin::migration_sql::<sqlx::Sqlite>()),
        #[allow(unreachable_patterns, reason = "where every database is built in")]
        kind => Err(kind.missing()),
    }
}
