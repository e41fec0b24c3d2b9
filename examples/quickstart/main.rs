//! Two services on one machine exchange events, and nothing is lost: kill this program at any moment, run it again, and
//! it ends `reconciled: yes`.
//!
//!     cargo run --example quickstart [-- --input ORDERS.ndjson --data DIRECTORY]
//!     cargo run --example quickstart --features postgres -- --postgres URL
//!     cargo run --example quickstart --features mysql -- --mysql URL
//!
//! `ordering.rs` and `billing.rs` are the two services, each with a database of its own; `exchange.rs` runs them;
//! `report.rs` and `books.rs` only count.

#![allow(clippy::duplicate_mod, reason = "the services are compiled once for each database")]

mod books;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::path::PathBuf;
use std::process::ExitCode;

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
    let arguments = Arguments::parse()?;
    let input = arguments.input.as_deref().unwrap_or(include_str!("orders.ndjson"));
    match &arguments.place {
        Place::Directory(path) => sqlite::run(path, input).await,
        #[cfg(feature = "postgres")]
        Place::Postgres(url) => postgres::run(url, input).await,
        #[cfg(feature = "mysql")]
        Place::Mysql(url) => mysql::run(url, input).await,
    }
}

struct Arguments {
    input: Option<String>,
    place: Place,
}

/// Where the two databases are.
enum Place {
    Directory(PathBuf),
    #[cfg(feature = "postgres")]
    Postgres(String),
    #[cfg(feature = "mysql")]
    Mysql(String),
}

impl Arguments {
    fn parse() -> Result<Self, Failure> {
        let mut parsed = Self { input: None, place: Place::Directory(PathBuf::from("quickstart-data")) };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--input" => {
                    let path = value()?;
                    let text = std::fs::read_to_string(&path)
                        .map_err(|error| format!("{path} can't be read: {error}"))?;
                    parsed.input = Some(text);
                }
                "--data" => parsed.place = Place::Directory(PathBuf::from(value()?)),
                #[cfg(feature = "postgres")]
                "--postgres" => parsed.place = Place::Postgres(value()?),
                #[cfg(feature = "mysql")]
                "--mysql" => parsed.place = Place::Mysql(value()?),
                other if ["--postgres", "--mysql"].contains(&other) => {
                    let feature = word.trim_start_matches('-');
                    return Err(format!(
                        "this was built without {word}; run `cargo run --example quickstart --features {feature} -- {word} URL`"
                    )
                    .into());
                }
                _ => {
                    return Err(format!(
                        "unknown argument {word}; usage: quickstart [--input FILE] [--data DIRECTORY | --postgres URL | --mysql URL]"
                    )
                    .into());
                }
            }
        }
        Ok(parsed)
    }
}
