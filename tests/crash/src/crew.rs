//! The four processes: started, killed, stopped, and started again.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tests::programs::program;

/// How long an orderly end may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// One instance's place, with the process that is in it or will be.
#[derive(Debug)]
pub struct Slot {
    /// Which, for people.
    pub name: String,
    words: Vec<String>,
    /// Where the first process in it stays for a while.
    stalls_at: Option<String>,
    child: Option<Child>,
    /// Where the running process is to die, and since when it has been running.
    pub point: Option<(String, Instant)>,
    /// The same for the next one.
    next_point: Option<String>,
    next_at: Instant,
    resume_at: Option<Instant>,
}

/// All of them; killed with this value.
#[derive(Debug)]
pub struct Crew {
    /// The instances.
    pub slots: Vec<Slot>,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// How many processes have died.
    pub kills: u64,
    /// The points at which some have.
    pub reached: Vec<String>,
    /// Those that nobody had killed.
    pub died: Vec<String>,
}

impl Crew {
    /// Nobody yet. Logs go to this folder.
    pub fn new(folder: &Path, environment: Vec<(&'static str, String)>) -> Self {
        let folder = folder.to_owned();
        Self { slots: Vec::new(), folder, environment, kills: 0, reached: Vec::new(), died: Vec::new() }
    }

    /// A place for one more, which is filled with the next [`tend`](Self::tend).
    /// The first process may be told to stay at a point for a while, `name:n`.
    pub fn add(&mut self, name: &str, words: Vec<String>, stalls_at: Option<String>) {
        self.slots.push(Slot {
            name: name.to_owned(),
            words,
            stalls_at,
            child: None,
            point: None,
            next_point: None,
            next_at: Instant::now(),
            resume_at: None,
        });
    }

    /// SIGKILL; another takes its place after a while, and may be told to die at a point, `name:n`.
    pub fn kill(&mut self, slot: usize, after: Duration, point: Option<String>) {
        let slot = &mut self.slots[slot];
        if let Some(mut child) = slot.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
        (slot.point, slot.next_point, slot.resume_at) = (None, point, None);
        slot.next_at = Instant::now() + after;
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub fn stop_for(&mut self, slot: usize, time: Duration) {
        let slot = &mut self.slots[slot];
        if slot.child.as_ref().is_some_and(|child| signal(child, "STOP")) {
            slot.resume_at = Some(Instant::now() + time);
        }
    }

    /// Looks after everybody: who has died is noted and replaced, who has been stopped long enough goes on.
    pub fn tend(&mut self) {
        for slot in &mut self.slots {
            if let Some(child) = &mut slot.child {
                if slot.resume_at.is_some_and(|at| at <= Instant::now()) {
                    signal(child, "CONT");
                    slot.resume_at = None;
                }
                if let Some(status) = child.try_wait().unwrap() {
                    slot.child = None;
                    // Not at once, so that the next one can be told where to die.
                    slot.next_at = Instant::now() + Duration::from_millis(30);
                    match slot.point.take() {
                        Some((point, _)) if status.signal() == Some(6) => {
                            self.kills += 1;
                            println!("{} has died at {point}", slot.name);
                            self.reached.push(point);
                        }
                        _ => self.died.push(format!("{}: {status}", slot.name)),
                    }
                }
            }
            if slot.child.is_none() && slot.next_at <= Instant::now() {
                slot.start(&self.folder, &self.environment);
            }
        }
    }

    /// Whoever is stopped goes on.
    pub fn resume_all(&mut self) {
        for slot in &mut self.slots {
            slot.resume_at = slot.resume_at.map(|_| Instant::now());
            slot.next_at = slot.next_at.min(Instant::now());
            slot.next_point = None;
        }
        self.tend();
    }

    /// SIGTERM for all, and their orderly end.
    pub async fn stop(&mut self) {
        for child in self.slots.iter().filter_map(|slot| slot.child.as_ref()) {
            signal(child, "TERM");
        }
        for slot in &mut self.slots {
            let Some(mut child) = slot.child.take() else { continue };
            match ended(&mut child).await {
                Some(status) if status.success() => {}
                Some(status) => self.died.push(format!("{}, told to stop: {status}", slot.name)),
                None => {
                    self.died.push(format!("{} does not stop", slot.name));
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            }
        }
    }
}

impl Slot {
    /// Whether the next process is told to die at a point.
    pub const fn is_waiting(&self) -> bool {
        self.next_point.is_some()
    }

    fn start(&mut self, folder: &Path, environment: &[(&'static str, String)]) {
        let log = fs::File::options().create(true).append(true).open(folder.join(&self.name)).unwrap();
        let mut command = Command::new(program("crash"));
        command.arg("service").args(&self.words).envs(environment.iter().map(|(name, value)| (name, value)));
        self.point = self.next_point.take().map(|point| (point, Instant::now()));
        if let Some((point, _)) = &self.point {
            command.env("DISTRIBUTED_EVENTS_CRASH_AT", point);
        }
        if let Some(point) = self.stalls_at.take() {
            command.env("DISTRIBUTED_EVENTS_STALL_AT", point);
        }
        // The end of its input tells it that the harness is gone.
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in self.slots.iter_mut().filter_map(|slot| slot.child.as_mut()) {
            let _may_have_ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

async fn ended(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + STOP_WITHIN;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

fn signal(child: &Child, name: &str) -> bool {
    let id = child.id().to_string();
    Command::new("kill").args(["-s", name, &id]).stderr(Stdio::null()).status().unwrap().success()
}
