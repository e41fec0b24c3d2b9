//! The command line of distributed-events: what operators do with the tables of any application, and the relays as a
//! service of their own. It knows no event type.
//!
//! `arguments` is what can be said, `config` what a file may say, `commands` does it. What a command shows goes to the
//! standard output, as a table for people or as JSON for scripts; everything else goes to the standard error.
#![cfg_attr(
    not(all(
        any(feature = "sqlite", feature = "postgres", feature = "mysql"),
        any(feature = "service-bus", feature = "service-bus-http")
    )),
    allow(unused, reason = "without a database or a broker there is little that a command could do")
)]

mod arguments;
mod commands;
mod config;
mod confirm;
mod database;
mod failure;
#[cfg(any(feature = "cli-otel", feature = "cli-entra"))]
mod https;
mod output;
mod progress;
mod telemetry;
mod when;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: this process gets no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(commands::run(arguments));
    // A read of the standard input that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    match done {
        // Whoever read has seen enough.
        Ok(()) | Err(failure::Failure::Unread) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            failure.exit_code()
        }
    }
}
