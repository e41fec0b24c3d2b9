//! The two services of the examples, each a process.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;
use tests::emulator::Emulator;
use tests::eventually::DEADLINE;
use tests::programs::program;

/// Ordering and billing, with the same exporter.
pub(crate) struct Shop {
    _emulator: Emulator,
    _directory: TempDir,
    pub(crate) billing: Service,
    pub(crate) ordering: Service,
}

impl Shop {
    /// Starts both, billing first: a topic forgets what comes before its subscriptions are there.
    pub(crate) fn open(example: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let emulator =
            Emulator::in_memory(&serde_json::json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] }));
        let directory = tempfile::tempdir().unwrap();
        let start = |service: &str| {
            let mut command = Command::new(program(example));
            command.arg(service).args(arguments).current_dir(directory.path());
            command.env("SERVICE_BUS", emulator.connection_string());
            command.env("SERVICE_BUS_MANAGEMENT", format!("http://localhost:{}", emulator.http().port()));
            command.envs(environment.iter().copied());
            Service::start(command)
        };
        let mut billing = start("billing");
        billing.says("billing is ready");
        let ordering = start("ordering");
        Self { _emulator: emulator, _directory: directory, billing, ordering }
    }

    /// Waits until the third order has come full circle, whose first attempt fails.
    pub(crate) fn sell_three(&mut self) {
        self.ordering.says("order 3 is paid");
    }

    /// Stops both in order, with everything exported.
    pub(crate) fn close(mut self) {
        self.ordering.stop();
        self.billing.stop();
    }
}

/// A process, and what it prints.
pub(crate) struct Service {
    child: Child,
    lines: Receiver<String>,
    heard: VecDeque<String>,
}

impl Service {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| say.send(line).is_ok()));
        Self { child, lines, heard: VecDeque::new() }
    }

    /// Waits for a line that begins so, and returns the rest of it.
    pub(crate) fn says(&mut self, beginning: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("it has not said `{beginning}`, but {:?}", self.heard));
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.to_owned();
            }
            self.heard.push_back(line);
        }
    }

    fn stop(&mut self) {
        let killed =
            Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
