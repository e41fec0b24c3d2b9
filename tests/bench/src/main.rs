//! How fast the library is, beside what this machine, this database and this client can do at all: README.md.
//!
//! [`arguments`] → [`server`] → [`measure`], each measure a module → [`report`] and [`charts`]. No number is compared with
//! one of another round.

mod arguments;
mod awake;
mod broker;
mod charts;
mod emulator;
mod event;
mod floors;
mod machine;
mod measure;
mod report;
mod server;
mod statistics;

use std::process::ExitCode;

use distributed_events::shutdown_signal;

use self::arguments::{Arguments, Asked};
use self::machine::Machine;
use self::measure::Bench;
use self::report::Report;
use self::server::Server;

/// Counts while somebody looks at it, which makes it slow: nothing is measured by a program that has it.
#[cfg(feature = "allocations")]
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What can go wrong is told to a person and to nobody else.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(text) => {
            eprintln!("bench: {text}; see --help");
            return ExitCode::from(2);
        }
    };
    let ran = match asked {
        Asked::Text(text) => {
            print!("{text}");
            Ok(())
        }
        Asked::Drain(url, rows) => measure::memory::drain(&url, rows).await,
        Asked::Emulate(topic, subscription) => emulator::emulate(&topic, &subscription).await,
        Asked::Compete(task) => measure::peers::compete(task).await,
        Asked::Run(arguments) => tokio::select! {
            ran = run(arguments) => ran,
            // Dropped here and not by the signal, the servers end with the measurement.
            () = shutdown_signal() => Err("stopped by a signal".into()),
        },
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    if cfg!(feature = "allocations") != arguments.allocations.is_some() {
        let command = "cargo run --release -p bench --features allocations -- --allocations FOLDER";
        return Err(format!("its allocator counts or it measures, and not both; to count: {command}").into());
    }
    let folder = server::folder(arguments.folder.as_deref())?;
    let mut machine = Machine::this(folder.path());
    let server = Server::postgres(folder.path(), &mut machine).await?;
    let words: Vec<_> = std::env::args().skip(1).collect();
    let features = if cfg!(feature = "allocations") { "--features allocations " } else { "" };
    let command = format!("cargo run --release -p bench {features}-- {}", words.join(" "));
    let report = Report::new(command, machine);
    let mut bench = Bench::new(server, folder.path(), arguments.quick, arguments.rounds, report);
    if let Some(folder) = &arguments.allocations {
        return bench.allocations(folder).await;
    }
    if let Some(folder) = &arguments.flame_graphs {
        return bench.flame_graphs(folder, &arguments.only).await;
    }
    bench.floors("before").await?;
    for name in &arguments.only {
        bench.measure(name).await;
        // What is there is kept, whatever becomes of the rest.
        if let Some(file) = &arguments.json {
            bench.report.write(file)?;
        }
    }
    bench.floors("after").await?;
    bench.report.end();
    if let Some(file) = &arguments.json {
        bench.report.write(file)?;
    }
    if let Some(folder) = &arguments.charts {
        charts::draw(bench.report.rows(), folder)?;
    }
    // Whoever asks for the peers wants all of them; everything else is measured and told all the same.
    if bench.report.lacks(measure::PEERS) {
        return Err("not every peer could be run".into());
    }
    Ok(())
}
