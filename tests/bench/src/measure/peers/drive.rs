//! A contestant's process, as the bench drives it: what `contestant.rs` says, from the other side.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Postgres};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::super::looks;
use super::contestant::{Mode, Said, Task};
use crate::Result;
use crate::server::Cell;

/// How long a contestant may take for one thing that it is to say: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// What is started, before the words of the task.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The program.
    pub(super) file: PathBuf,
    /// Its first words.
    pub(super) words: Vec<String>,
}

/// What a backlog took, in seconds since the contestant was let go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taken {
    /// Until the handler was called with the last row.
    last: f64,
    /// Until the last row was settled.
    settled: f64,
}

impl Taken {
    /// Rows in a second, from the start: from the first call on nobody would count what was claimed before it, and one of the
    /// peers claims 5,000 rows at once.
    pub(super) fn rates(self, rows: usize) -> Rates {
        Rates { called: rows as f64 / self.last, settled: rows as f64 / self.settled }
    }
}

/// Rows in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Until the last call of the handler: it flatters whoever settles late.
    pub(super) called: f64,
    /// Until the last row was settled.
    pub(super) settled: f64,
}

/// Lets a contestant work a backlog off, and checks that each row came to the handler once and is settled.
pub(super) async fn backlog(cell: &Cell, program: &Program, task: &Task) -> Result<Taken> {
    let mut process = Process::start(program, task)?;
    let left = process.ready().await?;
    cell.run("ANALYZE").await?;
    let mut conn = cell.connect().await?;
    let timed = async {
        let begun = process.go().await?;
        let Said::Done { last, .. } = process.hear().await? else {
            return Err("it said something else than done".into());
        };
        // Nobody asks before the last call, so that nobody who works is disturbed.
        while sqlx::query_scalar::<Postgres, i64>(AssertSqlSafe(left.as_str())).fetch_one(&mut conn).await?
            > 0
        {
            if begun.elapsed() > PATIENCE {
                return Err("not every row was settled".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Result::Ok(Taken { last, settled: begun.elapsed().as_secs_f64() })
    };
    let taken = looks::lit(timed).await??;
    process.ends(task.rows).await?;
    if task.mode == Mode::Processing {
        let sql = "SELECT count(*), count(DISTINCT customer) FROM business";
        let inserted: (i64, i64) = sqlx::query_as(sql).fetch_one(&mut conn).await?;
        let rows = i64::try_from(task.rows)?;
        if inserted != (rows, rows) {
            return Err(format!("{inserted:?} business rows instead of {rows}").into());
        }
    }
    Ok(taken)
}

/// Lets an idle contestant have a row now and then; tells the milliseconds from each commit to the handler.
pub(super) async fn latencies(program: &Program, task: &Task) -> Result<Vec<f64>> {
    let mut process = Process::start(program, task)?;
    process.ready().await?;
    process.go().await?;
    let Said::Latencies(taken) = process.hear().await? else {
        return Err("it said something else than latencies".into());
    };
    process.ends(task.rows).await?;
    if taken.len() + 1 != task.rows {
        return Err(format!("{} latencies of {} rows", taken.len(), task.rows).into());
    }
    Ok(taken)
}

/// The words of the command line.
fn words(task: &Task) -> [String; 6] {
    [
        task.url.clone(),
        task.mode.word().to_owned(),
        task.settings.clone(),
        task.rows.to_string(),
        task.pool.to_string(),
        task.pause.as_millis().to_string(),
    ]
}

/// Reads a line; one that is no word of the protocol is an error.
fn read(line: &str) -> Result<Said> {
    serde_json::from_str(line).map_err(|error| format!("not a word of the protocol: {line}: {error}").into())
}

/// Exactly so many calls, each with another row.
fn counted(said: &Said, rows: usize) -> Result<()> {
    match said {
        Said::Ended { calls, distinct } if *calls == rows && *distinct == rows => Ok(()),
        Said::Ended { calls, distinct } => {
            Err(format!("{calls} calls with {distinct} different rows instead of {rows}").into())
        }
        other => Err(format!("it did not end in order: {other:?}").into()),
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    complaint: Arc<Mutex<String>>,
}

impl Process {
    fn start(program: &Program, task: &Task) -> Result<Self> {
        let mut child = Command::new(&program.file)
            .args(&program.words)
            .args(words(task))
            // Of the peers one has its settings checked against a development mode, and one writes caches beside its source.
            .env("NODE_ENV", "production")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.file.display()))?;
        let output = child.stdout.take().ok_or("a contestant has no output")?;
        let errors = child.stderr.take().ok_or("a contestant has no place for errors")?;
        let (complaint, input) = (Arc::new(Mutex::new(String::new())), child.stdin.take());
        let last = Arc::clone(&complaint);
        tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if !line.trim().is_empty() {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = line.trim().to_owned();
                }
            }
        });
        Ok(Self { child, input, output: BufReader::new(output).lines(), complaint })
    }

    async fn ready(&mut self) -> Result<String> {
        match self.hear().await? {
            Said::Ready { left } => Ok(left),
            other => Err(format!("it was not ready: {other:?}").into()),
        }
    }

    async fn go(&mut self) -> Result<Instant> {
        let input = self.input.as_mut().ok_or("a contestant has no input")?;
        let begun = Instant::now();
        input.write_all(b"go\n").await?;
        input.flush().await?;
        Ok(begun)
    }

    async fn hear(&mut self) -> Result<Said> {
        let line = timeout(PATIENCE, self.output.next_line()).await;
        match line
            .map_err(|_| format!("it said nothing for {} s{}", PATIENCE.as_secs(), self.complaint()))??
        {
            Some(line) => read(&line),
            None => {
                // What it complained of arrives before its end is known.
                let status = self.child.wait().await?;
                tokio::task::yield_now().await;
                Err(format!("it ended with {status}{}", self.complaint()).into())
            }
        }
    }

    fn complaint(&self) -> String {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
    }

    /// Ends its input, and hears how often it was called in the end.
    async fn ends(mut self, rows: usize) -> Result<()> {
        drop(self.input.take());
        counted(&self.hear().await?, rows)?;
        let status = timeout(PATIENCE, self.child.wait()).await.map_err(|_| "it does not end")??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("it ended with {status}{}", self.complaint()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        let (mode, settings) = (Mode::Processing, "fast".to_owned());
        Task {
            url: "postgres://x/y".to_owned(),
            mode,
            settings,
            rows: 12,
            pool: 10,
            pause: Duration::from_millis(1),
        }
    }

    #[test]
    fn a_contestant_reads_the_task_as_it_was_written() {
        assert_eq!(Task::read(words(&task()).into_iter()).ok(), Some(task()));
        for broken in 0..5 {
            assert!(Task::read(words(&task()).into_iter().take(broken)).is_err(), "{broken} words");
        }
        let mut unknown = words(&task());
        unknown[1] = "dream".to_owned();
        assert!(Task::read(unknown.into_iter()).is_err_and(|error| error.to_string().contains("dream")));
    }

    /// The lines as the twins of `contestant.rs` write them.
    #[test]
    fn what_a_contestant_says_is_read() -> Result<()> {
        let left = "SELECT 0".to_owned();
        assert_eq!(read(r#"{"ready":{"left":"SELECT 0"}}"#)?, Said::Ready { left });
        assert_eq!(read(r#"{"done":{"first":0.5,"last":2}}"#)?, Said::Done { first: 0.5, last: 2.0 });
        assert_eq!(read(r#"{"latencies":[1.5,2]}"#)?, Said::Latencies(vec![1.5, 2.0]));
        assert_eq!(read(r#"{"ended":{"calls":3,"distinct":2}}"#)?, Said::Ended { calls: 3, distinct: 2 });
        assert!(read("Listening on port 80").is_err_and(|error| error.to_string().contains("port 80")));
        Ok(())
    }

    #[test]
    fn a_row_that_was_lost_or_came_twice_fails_the_cell() {
        assert!(counted(&Said::Ended { calls: 10, distinct: 10 }, 10).is_ok());
        for (calls, distinct) in [(11, 10), (10, 9), (9, 9)] {
            assert!(counted(&Said::Ended { calls, distinct }, 10).is_err(), "{calls}, {distinct}");
        }
        assert!(counted(&Said::Latencies(vec![]), 0).is_err());
    }

    #[test]
    fn late_settling_makes_the_rate_and_not_the_call() {
        let taken = Taken { last: 2.0, settled: 4.0 };
        assert_eq!(taken.rates(100), Rates { called: 50.0, settled: 25.0 });
    }
}
