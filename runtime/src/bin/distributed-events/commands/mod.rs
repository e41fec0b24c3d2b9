//! What the commands do.

mod brokers;
mod change;
#[cfg(feature = "dashboard")]
mod dashboard;
mod detail;
#[cfg(feature = "cli-entra")]
mod entra;
mod list;
mod migrate;
mod purge;
mod relay;
mod resend;
mod status;
mod topology;

use distributed_events::StorageError;
use distributed_events::admin::Table;
use distributed_events::storage::OperatorStorage;
use sqlx::Pool;

use crate::arguments::{Arguments, Command, Dashboard, General, InboxCommand, OutboxCommand};
use crate::config::Config;
use crate::database::{DatabaseUrl, on_database};
use crate::failure::Failure;
use crate::output::Format;

/// Connections of a command that looks and mends.
const FEW: u32 = 2;

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { general, command } = arguments;
    let format = if general.json { Format::Json } else { Format::People };
    match command {
        Command::Migrate(arguments) => migrate::run(&general, &arguments, format).await,
        Command::Status(arguments) => {
            let url = database_of(&general)?;
            on_database!(&url, FEW, |pool| {
                check(&pool).await?;
                status::run(&pool, &url, &arguments, format).await
            })
        }
        Command::Outbox(command) => outbox(&general, command, format).await,
        Command::Inbox(command) => inbox(&general, command, format).await,
        Command::Purge(arguments) => {
            let (url, config) = (database_of(&general)?, config_of(&general)?);
            on_database!(&url, FEW, |pool| {
                check(&pool).await?;
                purge::run(&pool, &arguments, &config, format).await
            })
        }
        Command::Relay(arguments) => relay::run(&general, &arguments, format).await,
        Command::Topology(arguments) => topology::run(&general, &arguments, format).await,
        Command::Dashboard(arguments) => serve_dashboard(&general, &arguments, format).await,
    }
}

#[cfg(feature = "dashboard")]
async fn serve_dashboard(general: &General, arguments: &Dashboard, format: Format) -> Result<(), Failure> {
    let config = config_of(general)?;
    let (url, tokens) = (database_of(general)?, dashboard::Tokens::for_listening_at(arguments)?);
    on_database!(&url, dashboard::CONNECTIONS, |pool| {
        check(&pool).await?;
        dashboard::run(pool, &url, arguments, &config, tokens, format).await
    })
}

#[cfg(not(feature = "dashboard"))]
async fn serve_dashboard(_general: &General, _arguments: &Dashboard, _format: Format) -> Result<(), Failure> {
    Err(Failure::Usage(
        "this binary was built without the feature `dashboard`: build one that has it, for example with `cargo install \
         distributed-events --features cli,dashboard,postgres`"
            .to_owned(),
    ))
}

async fn outbox(general: &General, command: OutboxCommand, format: Format) -> Result<(), Failure> {
    let (url, table) = (database_of(general)?, Table::Outbox);
    on_database!(&url, FEW, |pool| {
        check(&pool).await?;
        match command {
            OutboxCommand::List(arguments) => list::run(&pool, table, &arguments, format).await,
            OutboxCommand::Show(arguments) => detail::run(&pool, table, &arguments, format).await,
            OutboxCommand::Requeue(arguments) => change::requeue(&pool, table, &arguments, format).await,
            OutboxCommand::Discard(arguments) => change::discard(&pool, table, &arguments, format).await,
            OutboxCommand::Resend(arguments) => resend::run(&pool, &arguments, format).await,
        }
    })
}

async fn inbox(general: &General, command: InboxCommand, format: Format) -> Result<(), Failure> {
    let (url, table) = (database_of(general)?, Table::Inbox);
    on_database!(&url, FEW, |pool| {
        check(&pool).await?;
        match command {
            InboxCommand::List(arguments) => list::run(&pool, table, &arguments, format).await,
            InboxCommand::Show(arguments) => detail::run(&pool, table, &arguments, format).await,
            InboxCommand::Requeue(arguments) => change::requeue(&pool, table, &arguments, format).await,
            InboxCommand::Discard(arguments) => change::discard(&pool, table, &arguments, format).await,
            InboxCommand::Replay(arguments) => change::replay(&pool, &arguments, format).await,
        }
    })
}

/// Refuses tables of a newer version that this program would damage (rule 22).
async fn check<DB: OperatorStorage>(pool: &Pool<DB>) -> Result<(), Failure> {
    let _warnings = DB::check(&mut *pool.acquire().await.map_err(StorageError::from)?).await?;
    Ok(())
}

/// The configuration, if a file was named.
fn config_of(general: &General) -> Result<Config, Failure> {
    general.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)
}

/// The database: the one that was said, else the configuration's, else the environment's.
fn database_of(general: &General) -> Result<DatabaseUrl, Failure> {
    if let Some(url) = &general.database_url {
        return DatabaseUrl::parse(url, "--database-url");
    }
    if let Some(given) = config_of(general)?.database {
        let url = given.text().map_err(Failure::Usage)?;
        return DatabaseUrl::parse(&url, given.at());
    }
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => DatabaseUrl::parse(&url, "the environment variable DATABASE_URL"),
        _ => Err(Failure::Usage(
            "no database is named: say --database-url URL, or --config FILE with `url` in its [database], or set the \
             environment variable DATABASE_URL"
                .to_owned(),
        )),
    }
}
