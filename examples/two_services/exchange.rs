//! One run: who is started when, and what is told to whom.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Failure;
use crate::arguments::Arguments;
use crate::processes::Processes;
use crate::programs::Programs;

const DEFAULT: &str = "the emulator of the namespace `default`";
const CRITICAL: &str = "the emulator of the namespace `critical`";
const ORDERING: &str = "ordering";
const BILLING: &str = "billing";

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(60);

/// Makes the directory, and keeps a second run out of it for as long as the file is kept.
pub(crate) fn take_directory(directory: &Path) -> Result<File, Failure> {
    let made = std::fs::create_dir_all(directory);
    made.map_err(|error| format!("the directory {} can't be made: {error}", directory.display()))?;
    let file = File::options().create(true).append(true).open(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("another run uses {}", directory.display()).into()),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Starts everything, lets the orders come full circle, and stops everything; `false` when the books don't agree.
pub(crate) async fn run(
    arguments: &Arguments,
    programs: &Programs,
    processes: &mut Processes,
) -> Result<bool, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
    let default = emulator(DEFAULT, "default", arguments, programs, processes).await?;
    let critical = emulator(CRITICAL, "critical", arguments, programs, processes).await?;

    let shop = |command: &str| {
        let mut shop = Command::new(&programs.shop);
        shop.arg(command).arg("--data").arg(&arguments.data);
        shop.args(arguments.postgres.iter().flat_map(|url| ["--postgres", url]));
        shop
    };
    for service in [ORDERING, BILLING] {
        let mut command = shop(service);
        command.args(["--default", &default, "--critical", &critical]);
        if let Some(input) = &arguments.input {
            command.arg("--input").arg(input);
        }
        let id = processes.start(service, command)?;
        println!("{service}: process {id}");
    }
    println!("kill -9 any of them, and run the command again\n");
    for service in [ORDERING, BILLING] {
        within(START_WITHIN, service, processes.line(service, "ready")).await?;
    }

    // Both are there, and their subscriptions with them.
    processes.say(ORDERING, "go");
    let placed = processes.line(ORDERING, "placed").await?;
    let mut settle = shop("settle");
    settle.args(["--patience", &arguments.patience]);
    processes.start("settle", settle)?;
    let (settled, _) = processes.end("settle").await?;
    if !settled.success() {
        return Err("not everything is settled".into());
    }
    let mut counts = Vec::new();
    for service in [ORDERING, BILLING] {
        let lines = processes.stop(service).await?;
        let told = lines.iter().find_map(|line| line.strip_prefix("stopped "));
        counts.push(told.ok_or_else(|| format!("{service} has not said what it did"))?.to_owned());
    }
    for emulator in [DEFAULT, CRITICAL] {
        processes.stop(emulator).await?;
    }
    let mut report = shop("report");
    report.args(["--since", &since, "--placed", &placed, "--ordering", &counts[0], "--billing", &counts[1]]);
    processes.start("report", report)?;
    let (status, lines) = processes.end("report").await?;
    println!("{}", lines.join("\n"));
    Ok(status.success())
}

/// Starts an emulator, which keeps its messages over a kill, and gives its two doors, `AMQP,HTTP`.
async fn emulator(
    name: &'static str,
    namespace: &str,
    arguments: &Arguments,
    programs: &Programs,
    processes: &mut Processes,
) -> Result<String, Failure> {
    let data = arguments.data.join(namespace);
    within(START_WITHIN, name, predecessor_gone(&data.join("lock"))).await?;
    let mut command = Command::new(&programs.emulator);
    // Free ports, on this machine alone.
    command
        .args(["--until-input-ends", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data);
    let id = processes.start(name, command)?;
    let amqp = within(START_WITHIN, name, processes.line(name, "AMQP")).await?;
    let http = processes.line(name, "HTTP").await?;
    println!("namespace {namespace}: {amqp}, process {id}");
    Ok(format!("{amqp},{http}"))
}

/// An emulator whose launcher was killed stops by itself, and lets go of its directory then.
async fn predecessor_gone(lock: &Path) -> Result<(), Failure> {
    while let Ok(file) = File::options().append(true).open(lock) {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(()) | Err(TryLockError::Error(_)) => break,
        }
    }
    Ok(())
}

async fn within<T>(
    time: Duration,
    name: &str,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| format!("{name} is not ready after {} s", time.as_secs());
    tokio::time::timeout(time, future).await.map_err(late)?
}
