//! Where the numbers come from: nothing else makes them comparable with tomorrow's.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// A machine and what runs on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    /// The file system and the device that the servers' data lies on.
    disk: String,
    commit: String,
    load_before: String,
    load_after: String,
    /// Versions and settings of the servers, as they themselves say.
    servers: Vec<(String, String)>,
}

impl Machine {
    /// This one, with the folder that the servers live in.
    pub(crate) fn this(data: &Path) -> Self {
        let cpu = read("/proc/cpuinfo");
        let processor = cpu.lines().find_map(|line| line.strip_prefix("model name")).map(after_colon);
        let memory = read("/proc/meminfo");
        let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).map_or(0.0, leading_number);
        let place = data.to_string_lossy().into_owned();
        Self {
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_gib: (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: said("df", &["--output=fstype,source", &place])
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned(),
            commit: said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
            load_before: load(),
            load_after: String::new(),
            servers: Vec::new(),
        }
    }

    /// What a server says of itself.
    pub(crate) fn server(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.servers.push((name.into(), value.into()));
    }

    /// Looks at the load once more.
    pub(crate) fn ends(&mut self) {
        self.load_after = load();
    }

    /// What it was then.
    pub(crate) fn load_after(&self) -> &str {
        &self.load_after
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} cores, {} GiB, Linux {}",
            self.processor, self.cores, self.memory_gib, self.kernel
        )?;
        writeln!(f, "disk: {}; commit {}; load average {}", self.disk, self.commit, self.load_before)?;
        for (name, value) in &self.servers {
            writeln!(f, "{name}: {value}")?;
        }
        Ok(())
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn after_colon(line: &str) -> String {
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

fn leading_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Over one, five and fifteen minutes.
pub(crate) fn load() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
