//! What the binary says of itself, as `help.txt` has it.

use crate::program::{Program, said};

const COMMANDS: [&[&str]; 17] = [
    &[],
    &["migrate"],
    &["status"],
    &["outbox"],
    &["outbox", "list"],
    &["outbox", "show"],
    &["outbox", "requeue"],
    &["outbox", "discard"],
    &["outbox", "resend"],
    &["inbox"],
    &["inbox", "list"],
    &["inbox", "show"],
    &["inbox", "requeue"],
    &["inbox", "discard"],
    &["inbox", "replay"],
    &["purge"],
    &["relay"],
];

/// Write it anew with `DISTRIBUTED_EVENTS_WRITE_HELP=1`, and read what has changed.
#[test]
fn every_command_explains_itself() {
    let program = Program::without_tables();
    let mut all = String::new();
    for command in COMMANDS.into_iter().chain([&["topology"][..], &["dashboard"]]) {
        let arguments = [command, &["-h"]].concat();
        let output = program.command(&arguments).env_remove("COLUMNS").output().unwrap();
        let said = said(&output);
        assert_eq!((said.status, said.error.as_str()), (0, ""), "{command:?}");
        all.push_str(&format!("$ distributed-events {}\n{}\n", arguments.join(" "), said.output));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/help.txt");
    if std::env::var_os("DISTRIBUTED_EVENTS_WRITE_HELP").is_some() {
        std::fs::write(path, &all).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap();
    for (line, (found, known)) in all.lines().zip(known.lines()).enumerate() {
        assert_eq!(found, known, "line {} of {path}", line + 1);
    }
    assert_eq!(all.lines().count(), known.lines().count());
}

#[test]
fn mistyped_words_are_answered_with_the_right_ones() {
    let program = Program::without_tables();
    let error = program.fails(2, &["outbox", "lst"]);
    assert!(error.contains("list"), "{error}");
    let error = program.fails(2, &["outbox", "list", "--sesion", "1"]);
    assert!(error.contains("--session"), "{error}");
    let error = program.fails(2, &[]);
    assert!(error.contains("Usage: distributed-events"), "{error}");
    assert!(program.ok(&["--version"]).starts_with("distributed-events 0."));
}
