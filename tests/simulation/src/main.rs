//! `cargo run -p simulation -- SEED` prints what happens with a seed; `-- FIRST COUNT` runs many and tells of the first
//! that goes wrong. Exit status: 0 nothing is wrong, 1 something is, 2 the call is wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|number| number.parse()).collect();
    match numbers.as_deref() {
        Ok([seed]) => one(*seed),
        Ok([first, count]) => many(*first, *count),
        _ => {
            eprintln!("usage: simulation SEED | simulation FIRST COUNT");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = simulation::run(seed, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    for finding in &outcome.findings {
        println!("seed {seed}: {finding}");
    }
    println!("events {}, kills {}, faults {}", outcome.events, outcome.kills, outcome.faults);
    ExitCode::from(u8::from(!outcome.findings.is_empty()))
}

fn many(first: u64, count: u64) -> ExitCode {
    let (mut events, mut kills, mut faults) = (0, 0, 0);
    for seed in first..first.saturating_add(count) {
        let outcome = simulation::run(seed, false);
        if !outcome.findings.is_empty() {
            return one(seed);
        }
        events += outcome.events;
        kills += outcome.kills;
        faults += outcome.faults;
    }
    println!("seeds {count}, events {events}, kills {kills}, faults {faults}: nothing is wrong");
    ExitCode::SUCCESS
}
