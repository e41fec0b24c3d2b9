//! The processes of `two_services`, one program: its launcher starts it as `ordering`, as `billing`, and at the end to
//! look into the books. Nobody else need: `cargo run --example two_services`.

#![allow(clippy::duplicate_mod, reason = "ordering is compiled once for each database")]

mod arguments;
mod billing;
#[path = "../../quickstart/books.rs"]
mod books;
mod compare;
mod events;
mod input;
mod placed;
#[cfg(feature = "postgres")]
mod postgres;
mod service;
mod settling;
mod sqlite;

use std::path::PathBuf;
use std::process::ExitCode;

use arguments::Arguments;
use input::Input;
use service::Namespaces;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool, Failure> {
    let arguments = Arguments::read()?;
    let data = PathBuf::from(arguments.get("data")?);
    let billing_db = || async { sqlite::open(&data.join("billing.db")).await };
    let _one_at_a_time = match arguments.command.as_str() {
        service @ ("ordering" | "billing") => Some(service::wait_for_predecessor(&data, service)?),
        _ => None,
    };
    if arguments.command == "billing" {
        let bus = billing::bus(&billing_db().await?).await?;
        service::run(bus, Namespaces::of(&arguments)?, &Input::read(), async |_| Ok(())).await?;
        return Ok(true);
    }
    match arguments.get("postgres") {
        #[cfg(feature = "postgres")]
        Ok(url) => {
            let ordering_db = postgres::open(url, &data).await?;
            postgres::commands::run(&arguments, &ordering_db, &billing_db().await?).await
        }
        #[cfg(not(feature = "postgres"))]
        Ok(_) => Err("this was built without the feature `postgres`".into()),
        Err(_) => {
            let ordering_db = sqlite::open(&data.join("ordering.db")).await?;
            sqlite::commands::run(&arguments, &ordering_db, &billing_db().await?).await
        }
    }
}
