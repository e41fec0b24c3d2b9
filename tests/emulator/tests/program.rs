//! The emulator as a program.
#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn it_stops_in_order_when_whoever_started_it_is_gone() {
    let mut emulator = Command::new(env!("CARGO_BIN_EXE_servicebus-emulator"))
        .args(["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--until-input-ends"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(emulator.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("AMQP 127.0.0.1:"));
    let mut input = emulator.stdin.take().unwrap();
    input.write_all(b"what is said to it is nothing to it\n").unwrap();
    assert!(emulator.try_wait().unwrap().is_none());
    drop(input);
    assert!(emulator.wait().unwrap().success());
}
