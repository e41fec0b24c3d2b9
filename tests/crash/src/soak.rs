//! Runs by one seed after the other, for as long as one likes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tests::fixtures::{File, MySqlDatabase, PgDatabase};

use crate::chance::{Chance, seed};
use crate::checker::Finding;
use crate::run::{Outcome, Over, Plan, Setting, run};

/// The faults of one run.
const FAULTS: usize = 60;

#[derive(Debug, Default)]
struct Sums {
    runs: u64,
    events: usize,
    kills: u64,
    faults: u64,
    lost: usize,
    doubled: usize,
    reordered: usize,
    others: usize,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        let count = |of: fn(&Finding) -> bool| outcome.findings.iter().filter(|finding| of(finding)).count();
        let lost = count(|finding| matches!(finding, Finding::Lost(_)));
        let doubled = count(|finding| matches!(finding, Finding::Doubled(_)));
        let reordered = count(|finding| matches!(finding, Finding::Reordered(_)));
        self.runs += 1;
        self.events += outcome.events;
        self.kills += outcome.kills;
        self.faults += outcome.faults;
        self.lost += lost;
        self.doubled += doubled;
        self.reordered += reordered;
        self.others += outcome.findings.len() - lost - doubled - reordered;
    }
}

/// Runs until the minutes are over; the run that is under way then is finished.
pub fn main(minutes: u64) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut sums = Sums::default();
    let first = seed();
    for seed in first.. {
        // In a task of its own, so that a panic is one run's.
        match runtime.block_on(runtime.spawn(one(seed))) {
            Ok(outcome) => sums.add(&outcome),
            Err(panicked) => {
                println!("the run was not finished: {panicked}");
                sums.others += 1;
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    let Sums { runs, events, kills, faults, lost, doubled, reordered, others } = sums;
    println!("{runs} runs; anything else that is wrong: {others}");
    println!(
        "events {events}, kills {kills}, faults {faults}, lost {lost}, doubled {doubled}, reordered {reordered}"
    );
    if lost + doubled + reordered + others == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The database and the broker are the seed's choice as well.
async fn one(seed: u64) -> Outcome {
    let mut chance = Chance::nth(seed, u64::MAX - 2);
    let over = chance.one_of(&[Over::Emulator, Over::Emulator, Over::Local]);
    let setting = Setting { seed, over, plan: Plan::Random(FAULTS), broken: None };
    match chance.below(3) {
        0 => run::<File>(setting).await,
        1 => run::<PgDatabase>(setting).await,
        _ => run::<MySqlDatabase>(setting).await,
    }
}
