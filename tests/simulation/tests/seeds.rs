//! Thousands of seeds, each a world of its own, and what they would find.

use std::process::Command;

use simulation::run;

/// How many seeds each of the tests below tries.
fn seeds() -> u64 {
    if tests::is_long() { 20_000 } else { 300 }
}

fn nothing_is_wrong(part: u64) {
    for seed in part * 1_000_000..part * 1_000_000 + seeds() {
        let outcome = run(seed, false);
        if !outcome.findings.is_empty() {
            let again = run(seed, true);
            let last = again.trace.len().saturating_sub(200);
            println!("{}", again.trace[last..].join("\n"));
            panic!("{:?}; all of it: cargo run -p simulation --all-features -- {seed}", outcome.findings);
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_1() {
    nothing_is_wrong(1);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_2() {
    nothing_is_wrong(2);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_3() {
    nothing_is_wrong(3);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_4() {
    nothing_is_wrong(4);
}

#[test]
fn a_seed_is_the_same_world_again() {
    for seed in 0..10 {
        let (first, second) = (run(seed, true), run(seed, true));
        let differs = first.trace.iter().zip(&second.trace).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 100, "something happens: {} lines", first.trace.len());
    }
}

/// What the troubles of some seeds do, so that no change makes them harmless unseen.
#[test]
fn there_are_troubles_of_every_kind() {
    let mut all = String::new();
    for seed in 0..60 {
        all.push_str(&run(seed, true).trace.join("\n"));
    }
    for trouble in [
        "is killed",
        "is frozen",
        "is asked to stop",
        "server is away",
        "namespace    is away",
        "namespace    is busy",
        "all links are cut",
        "its clock jumps",
        "the answer is lost",
        "settles are lost",
        "2 times",
        "not ours",
        "not done",
        "the server has ended the transaction",
        "gives up waiting for a row",
        "the handler did not return",
    ] {
        assert!(all.contains(trouble), "no seed has the trouble `{trouble}`");
    }
}

/// Each protection is left out, and the damage is found and told with a trace.
#[test]
fn what_a_missing_protection_does_is_found() {
    for (protection, damage) in [("dedupe", "doubled"), ("guard", "doubled"), ("sessions", "reordered")] {
        let output = Command::new(env!("CARGO_BIN_EXE_simulation"))
            .args(["0", "300"])
            .env("DISTRIBUTED_EVENTS_BREAK", protection)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "without {protection}: {text}");
        let found = text.lines().filter(|line| line.contains(&format!(": {damage}: "))).count();
        assert!(found > 0, "without {protection}: {text}");
        assert!(
            text.contains(" reads shard ") && text.contains(" is killed"),
            "without {protection}: {text}"
        );
    }
}

#[test]
fn a_wrong_call_is_refused() {
    for arguments in [&[][..], &["x"], &["1", "2", "3"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_simulation")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains("usage: simulation SEED"));
    }
}
