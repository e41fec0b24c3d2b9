//! Two services, a process each, exchange events by Azure Service Bus, or rather by its emulator, and nothing is lost:
//! kill any of the processes at any moment, run this again, and it ends `reconciled: yes`.
//!
//!     cargo run --example two_services [-- --input ORDERS.ndjson --data DIRECTORY]
//!     cargo run --example two_services -- --postgres URL
//!
//! This program only starts the others, after it has built them, and stops them. The services are in `shop/`: `events.rs`
//! is what they tell each other, `ordering.rs` and `billing.rs` are the two; `service.rs` runs either. Beside what the
//! quickstart shows there are several events of one session whose order matters, an event that comes at a later time, and
//! one that travels through a namespace of its own.

mod arguments;
mod exchange;
mod processes;
mod programs;

use std::process::ExitCode;

use arguments::Arguments;
use processes::Processes;
use programs::Programs;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// `false` when the books don't agree, or nobody knows yet whether they do; an error where there was nothing to start.
async fn run() -> Result<bool, Failure> {
    let Some(arguments) = Arguments::read(std::env::args().skip(1))? else {
        print!("{}", arguments::HELP);
        return Ok(true);
    };
    let programs = match &arguments.programs {
        Some(directory) => Programs::of(directory),
        None => Programs::build(arguments.postgres.is_some())?,
    };
    let _alone = exchange::take_directory(&arguments.data)?;

    let mut processes = Processes::default();
    let ending = tokio::select! {
        ending = exchange::run(&arguments, &programs, &mut processes) => ending,
        () = distributed_events::shutdown_signal() => Err("stopped before everything was settled".into()),
    };
    processes.stop_all().await;
    ending.or_else(|error| {
        eprintln!("{error}\nrun the command again: it goes on where this ended");
        Ok(false)
    })
}
