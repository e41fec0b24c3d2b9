//! Running the binary.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::rows::Rows;

/// A folder with a database, and the binary about it.
pub(crate) struct Program {
    pub(crate) folder: TempDir,
}

/// What it said, and its exit status.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) output: String,
    pub(crate) error: String,
}

impl Program {
    /// With the library's tables.
    pub(crate) fn new() -> Self {
        let program = Self::without_tables();
        program.ok(&["migrate", "--create"]);
        program
    }

    /// Without a database.
    pub(crate) fn without_tables() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path("shop.db").display())
    }

    /// The binary, told of the database by the environment, and of nothing else by the tests' own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distributed-events"));
        command.args(arguments).env_remove("RUST_LOG").env("DATABASE_URL", self.url());
        command.current_dir(self.folder.path()).stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(&self.command(arguments).output().unwrap())
    }

    /// Has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.status, 0, "{arguments:?}: {}{}", said.output, said.error);
        said.output
    }

    /// Has to succeed, with one line of JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ok(&[&["--json"], arguments].concat());
        assert_eq!(output.lines().count(), 1, "{output}");
        serde_json::from_str(&output).unwrap()
    }

    /// Has to end with this status; returns what it said about it.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.status, status, "{arguments:?}: {}{}", said.output, said.error);
        assert_eq!(said.output, "", "{arguments:?}");
        said.error
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }
}

impl Rows {
    pub(crate) async fn of(program: &Program) -> Self {
        Self::at(&program.url()).await
    }
}

pub(crate) fn said(output: &Output) -> Said {
    Said {
        status: output.status.code().unwrap(),
        output: String::from_utf8(output.stdout.clone()).unwrap(),
        error: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}
