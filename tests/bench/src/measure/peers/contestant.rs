//! What every contestant says and hears, and how one that is written in Rust does so. This file is compiled into the bench,
//! for our own subject, and into `tests/bench/peers`; `peers/contestant.mjs` and `peers/contestant.py` are its twins.
//!
//! A contestant is a process: `PROGRAM URL MODE SETTINGS ROWS POOL PAUSE`. It installs its schema, seeds its rows, says
//! `ready`, and waits for a line. After that line it works, says `done` after the last of its rows has come to its handler,
//! and goes on until its input ends; then it stops in order and says `ended`. Each thing it says is a line of JSON.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

use crate::Result;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A backlog into a handler that does nothing, or sleeps.
    Drain,
    /// A backlog through a handler that inserts one row.
    Processing,
    /// An idle worker that is given one row now and then.
    Latency,
}

impl Mode {
    /// As the command line has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Processing => "processing",
            Self::Latency => "latency",
        }
    }

    fn read(word: &str) -> Result<Self> {
        let all = [Self::Drain, Self::Processing, Self::Latency];
        all.into_iter().find(|mode| mode.word() == word).ok_or_else(|| format!("unknown mode: {word}").into())
    }
}

/// What a contestant is told when it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// The database.
    pub(crate) url: String,
    /// What is measured.
    pub(crate) mode: Mode,
    /// A word that the contestant knows: for peers `fast` or `default`.
    pub(crate) settings: String,
    /// How many rows.
    pub(crate) rows: usize,
    /// How many connections a worker may have.
    pub(crate) pool: u32,
    /// How long the handler of a drain takes; for latencies, by how much the time between two rows varies.
    pub(crate) pause: Duration,
}

impl Task {
    /// How long the handler sleeps.
    pub(crate) fn sink(&self) -> Duration {
        if self.mode == Mode::Drain { self.pause } else { Duration::ZERO }
    }

    /// The words after the program's name.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
        Ok(Self {
            url: word("the URL")?,
            mode: Mode::read(&word("the mode")?)?,
            settings: word("the word for the settings")?,
            rows: word("the number of rows")?.parse()?,
            pool: word("the size of the pool")?.parse()?,
            pause: Duration::from_millis(word("the pause")?.parse()?),
        })
    }
}

/// What a contestant says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// Its rows are there, its worker isn't yet.
    Ready {
        /// A query for how many rows are not settled.
        left: String,
    },
    /// All rows have come to the handler: seconds from the line that it waited for to the first and to the last.
    Done {
        /// To the first.
        first: f64,
        /// To the last.
        last: f64,
    },
    /// Milliseconds from the return of each commit to the handler.
    Latencies(Vec<f64>),
    /// It has stopped.
    Ended {
        /// How often the handler was called.
        calls: usize,
        /// With how many different rows.
        distinct: usize,
    },
}

impl Said {
    fn tell(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// Between two rows of a latency: as a poll goes on from the row before, each part of it gets its share.
fn apart(n: usize, spread: Duration) -> Duration {
    Duration::from_millis(150) + spread * u32::try_from(n * 37 % 100).unwrap_or(0) / 100
}

/// When the handler was called with which row. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    seen: Arc<Mutex<Seen>>,
    distinct: watch::Sender<usize>,
}

#[derive(Debug)]
struct Seen {
    at: Vec<Option<Instant>>,
    calls: usize,
}

impl Calls {
    fn new(rows: usize) -> Self {
        let seen = Seen { at: vec![None; rows], calls: 0 };
        Self { seen: Arc::new(Mutex::new(seen)), distinct: watch::Sender::new(0) }
    }

    /// Notes one; a row that was seen before keeps its time.
    pub(crate) fn note(&self, n: usize) {
        let now = Instant::now();
        let mut seen = self.lock();
        seen.calls += 1;
        let is_new = match seen.at.get_mut(n) {
            Some(at @ None) => {
                *at = Some(now);
                true
            }
            _ => false,
        };
        drop(seen);
        if is_new {
            self.distinct.send_modify(|distinct| *distinct += 1);
        }
    }

    /// Waits until so many rows were seen.
    async fn reach(&self, rows: usize) {
        let mut distinct = self.distinct.subscribe();
        // The sender lives as long as this value.
        let _closed = distinct.wait_for(|distinct| *distinct >= rows).await;
    }

    fn times(&self) -> Vec<Instant> {
        self.lock().at.iter().copied().flatten().collect()
    }

    fn ended(&self) -> Said {
        let seen = self.lock();
        Said::Ended { calls: seen.calls, distinct: seen.at.iter().flatten().count() }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker with its tables.
pub(crate) trait Contestant: Sized {
    /// Connects, installs the schema and, unless latencies are measured, seeds the rows.
    async fn prepare(task: &Task, calls: Calls) -> Result<Self>;

    /// A query for how many rows are not settled.
    fn left(&self) -> String;

    /// Starts the worker.
    async fn start(&mut self) -> Result<()>;

    /// Adds one row in a transaction of its own, and commits it.
    async fn publish(&self, n: usize) -> Result<()>;

    /// Stops the worker in order.
    async fn stop(self) -> Result<()>;
}

/// Takes part.
pub(crate) async fn compete<C: Contestant>(task: &Task) -> Result<()> {
    let calls = Calls::new(task.rows);
    let mut contestant = C::prepare(task, calls.clone()).await?;
    let mut heard = BufReader::new(tokio::io::stdin()).lines();
    Said::Ready { left: contestant.left() }.tell()?;
    heard.next_line().await?.ok_or("nobody said go")?;
    let begun = Instant::now();
    contestant.start().await?;
    if task.mode == Mode::Latency {
        latencies(task, &contestant, &calls).await?.tell()?;
    } else {
        calls.reach(task.rows).await;
        let seconds: Vec<_> = calls.times().iter().map(|at| at.duration_since(begun).as_secs_f64()).collect();
        let first = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        Said::Done { first, last: seconds.iter().copied().fold(0.0, f64::max) }.tell()?;
    }
    while heard.next_line().await?.is_some() {}
    contestant.stop().await?;
    calls.ended().tell()
}

async fn latencies(task: &Task, contestant: &impl Contestant, calls: &Calls) -> Result<Said> {
    // What follows a start is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut committed = Vec::with_capacity(task.rows);
    for n in 0..task.rows {
        tokio::time::sleep(apart(n, task.pause)).await;
        contestant.publish(n).await?;
        committed.push(Instant::now());
        // The next one finds it idle again.
        calls.reach(n + 1).await;
    }
    let taken = committed.iter().zip(calls.times()).map(|(committed, called)| {
        // A notification can be quicker than the answer to the commit.
        called.saturating_duration_since(*committed).as_secs_f64() * 1e3
    });
    // The first one finds caches and plans cold, and is everybody's.
    Ok(Said::Latencies(taken.skip(1).collect()))
}
