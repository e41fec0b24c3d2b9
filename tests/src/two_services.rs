//! The example `two_services` as a test starts it, kills it, and looks into its books.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use sqlx::SqlitePool;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::programs::example;
use crate::service::connect;

/// What a run starts, by the names that it prints.
pub const PROCESSES: [&str; 4] = ["ordering", "billing", "namespace default", "namespace critical"];

/// A directory with an input that grows, and the data of all runs on it.
#[derive(Debug)]
pub struct TwoServices {
    directory: TempDir,
    postgres: Option<String>,
    orders: u32,
}

impl TwoServices {
    /// With so many orders: of every fifty the seventh card has expired, of every twenty the third is busy at first, and
    /// every tenth order is large.
    pub fn new(orders: u32) -> Self {
        let mut new = Self { directory: tempfile::tempdir().unwrap(), postgres: None, orders: 0 };
        new.order(orders);
        new
    }

    /// The same with ordering on a PostgreSQL server.
    pub fn on_postgres(orders: u32, url: String) -> Self {
        Self { postgres: Some(url), ..Self::new(orders) }
    }

    /// Adds orders to the input.
    pub fn order(&mut self, more: u32) {
        let lines: String = (self.orders + 1..=self.orders + more)
            .map(|id| {
                let card =
                    if id % 50 == 7 { "expired" } else { ["valid", "busy"][usize::from(id % 20 == 3)] };
                let cents = if id % 10 == 0 { 45_000 } else { 1000 + id };
                format!("{{\"order_id\": {id}, \"total_cents\": {cents}, \"card\": \"{card}\"}}\n")
            })
            .collect();
        self.write(&lines);
        self.orders += more;
    }

    /// Adds text to the input.
    pub fn write(&self, text: &str) {
        let mut input = File::options().create(true).append(true).open(self.input()).unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }

    fn input(&self) -> PathBuf {
        self.directory.path().join("orders.ndjson")
    }

    /// Where the processes keep what they have.
    pub fn data(&self) -> PathBuf {
        let data = self.directory.path().join("data");
        if self.postgres.is_some() { data.join("postgres") } else { data }
    }

    /// The launcher with its arguments.
    pub fn command(&self) -> Command {
        let launcher = example("two_services");
        let programs = launcher.parent().and_then(|examples| examples.parent()).unwrap();
        let mut command = Command::new(&launcher);
        command.arg("--programs").arg(programs).arg("--input").arg(self.input());
        command.arg("--data").arg(self.directory.path().join("data"));
        command.args(self.postgres.iter().flat_map(|url| ["--postgres", url]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Runs to the end, which must be a good one; returns what it printed.
    pub fn assert_reconciles(&self, what: &str) -> String {
        let output = self.run();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
        assert!(out.ends_with("reconciled: yes\n"), "{what}\n{out}\n{err}");
        out.into_owned()
    }

    /// Starts a run, and returns when it has started its processes.
    pub fn start(&self) -> Run {
        let mut launcher = self.command().stderr(Stdio::inherit()).spawn().unwrap();
        let mut output = BufReader::new(launcher.stdout.take().unwrap());
        let mut processes = HashMap::from([("launcher".to_owned(), launcher.id())]);
        let mut line = String::new();
        while !line.starts_with("kill -9") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ended before all was started");
            let named = line.trim().split_once(": ");
            let id = named.and_then(|(name, rest)| Some((name, rest.rsplit_once("process ")?.1)));
            processes.extend(id.map(|(name, id)| (name.to_owned(), id.parse().unwrap())));
        }
        // It may go on talking, and must not find the pipe closed.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Run { launcher, processes }
    }

    /// A service's database.
    pub async fn database(&self, name: &str) -> SqlitePool {
        std::fs::create_dir_all(self.data()).unwrap();
        connect(&self.data().join(name), 1).await
    }

    /// Does this to a service's database.
    pub async fn sql(&self, database: &str, sql: &'static str) {
        let pool = self.database(database).await;
        let done = sqlx::query(sql).execute(&pool).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql} did nothing");
        pool.close().await;
    }

    /// Waits until no process of an earlier run is left: each holds a lock while it lives.
    pub async fn assert_nobody_is_left(&self) {
        let locks = ["ordering.lock", "billing.lock", "default/lock", "critical/lock"];
        let left = || async {
            let held = |name: &&str| {
                let file = File::options().append(true).open(self.data().join(name));
                file.is_ok_and(|file| file.try_lock().is_err())
            };
            locks.into_iter().filter(held).collect::<Vec<_>>()
        };
        eventually("processes that have lost their launcher end", left, Vec::is_empty).await;
    }
}

/// A run that has started its processes; killed when dropped.
#[derive(Debug)]
pub struct Run {
    launcher: Child,
    processes: HashMap<String, u32>,
}

impl Run {
    /// Sends a signal to the launcher, or to one of the processes that it has started.
    pub fn signal(&self, signal: &str, name: &str) {
        let id = self.processes[name].to_string();
        // It may have ended just now.
        let _sent = Command::new("kill").args(["-s", signal, &id]).stderr(Stdio::null()).status().unwrap();
    }

    /// Waits until billing has handled so many events, or the run has ended.
    pub async fn reaches(&mut self, handled: i64, billing: &SqlitePool) {
        let mut look = async || {
            let counted = sqlx::query_scalar("SELECT count(*) FROM inbox WHERE status <> 'pending'");
            // Before the first run has made its tables there is nothing.
            let counted: i64 = counted.fetch_one(billing).await.unwrap_or(0);
            counted >= handled || self.launcher.try_wait().unwrap().is_some()
        };
        while !look().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        self.launcher.wait().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _may_have_ended = self.launcher.kill();
        let _reaped = self.launcher.wait();
    }
}

/// Numbers by xorshift64, from a seed that is printed: any spread will do.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// A new seed, or the one of `DISTRIBUTED_EVENTS_SEED`.
    pub fn new() -> Self {
        let given = std::env::var("DISTRIBUTED_EVENTS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("DISTRIBUTED_EVENTS_SEED={seed}");
        Self(seed.max(1))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}
