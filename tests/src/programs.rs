//! The example programs, as the tests start them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An example's program, built beside the tests by `./tests/run`.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build --workspace --all-features --examples`, or use ./tests/run",
        path.display()
    );
    path
}

/// A program of the workspace, built beside the tests, or beside the program that asks.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing beside {}: build it with `cargo build --workspace --all-features`",
            own.display()
        )
    })
}

/// Runs an example to its end, which must be a good one; returns what it printed.
pub fn run(name: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(example(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name}: {status}\n{out}\n{err}");
    out.into_owned()
}
