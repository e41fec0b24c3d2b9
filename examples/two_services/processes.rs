//! Child processes: each says lines, and ends when its standard input does, so that none outlives this program for long,
//! however it ends.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Failure;

/// How long a process may take to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// The processes that run, the first started first.
pub(crate) struct Processes {
    running: Vec<Process>,
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
}

struct Process {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    unread: VecDeque<String>,
}

/// A line of a process, or none at its end.
struct Told {
    name: &'static str,
    line: Option<String>,
}

impl Default for Processes {
    fn default() -> Self {
        let (tell, told) = unbounded_channel();
        Self { running: Vec::new(), tell, told }
    }
}

impl Processes {
    /// Starts one, and gives its process id.
    pub(crate) fn start(&mut self, name: &'static str, mut command: Command) -> Result<u32, Failure> {
        // Ctrl-C goes to the terminal's group, and would end all of them at once instead of in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} can't be started: {error}", command.get_program().display()))?;
        let id = child.id();
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            let tell = self.tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _gone = tell.send(Told { name, line: Some(line) });
                }
                let _gone = tell.send(Told { name, line: None });
            });
        }
        self.running.push(Process { name, child, input, unread: VecDeque::new() });
        Ok(id)
    }

    /// Says a line to one.
    pub(crate) fn say(&mut self, name: &str, line: &str) {
        if let Some(input) = self.find(name).and_then(|process| process.input.as_mut()) {
            // One that has died will be found to have.
            let _died = writeln!(input, "{line}");
        }
    }

    /// Waits for a line that begins so, and gives what follows.
    ///
    /// # Errors
    /// When any of them has ended.
    pub(crate) async fn line(&mut self, name: &'static str, start: &str) -> Result<String, Failure> {
        loop {
            while let Some(line) = self.find(name).and_then(|process| process.unread.pop_front()) {
                if let Some(rest) = line.strip_prefix(start) {
                    return Ok(rest.trim().to_owned());
                }
            }
            if let Some((name, status, _)) = self.next().await {
                return Err(died(name, status));
            }
        }
    }

    /// Waits for the end of one, and gives the lines that nobody has waited for.
    ///
    /// # Errors
    /// When another has ended, or this one was killed.
    pub(crate) async fn end(&mut self, name: &'static str) -> Result<(ExitStatus, Vec<String>), Failure> {
        loop {
            match self.next().await {
                Some((ended, status, lines)) if ended == name && status.code().is_some() => {
                    return Ok((status, lines.into()));
                }
                Some((ended, status, _)) => return Err(died(ended, status)),
                None => {}
            }
        }
    }

    /// Stops one in order, and gives the lines that nobody has waited for.
    ///
    /// # Errors
    /// As for [`end`](Self::end), and when it does not stop.
    pub(crate) async fn stop(&mut self, name: &'static str) -> Result<Vec<String>, Failure> {
        let Some(process) = self.find(name) else { return Ok(Vec::new()) };
        process.input = None;
        match tokio::time::timeout(STOP_WITHIN, self.end(name)).await {
            Ok(ended) => Ok(ended?.1),
            Err(_late) => Err(format!("{name} does not stop").into()),
        }
    }

    /// Stops all of them, the last started first, and kills what does not stop.
    pub(crate) async fn stop_all(&mut self) {
        while let Some(name) = self.running.last().map(|process| process.name) {
            if let Err(error) = self.stop(name).await {
                eprintln!("{error}");
            }
            // What has not ended now is not going to.
            if let Some(mut process) = self.running.pop_if(|process| process.name == name) {
                kill(&mut process.child);
            }
        }
    }

    /// Takes in what is told next; gives a process that has ended, its status, and what it has said last.
    async fn next(&mut self) -> Option<(&'static str, ExitStatus, VecDeque<String>)> {
        let Told { name, line } = self.told.recv().await?;
        let index = self.running.iter().position(|process| process.name == name)?;
        if let Some(line) = line {
            self.running[index].unread.push_back(line);
            return None;
        }
        let mut process = self.running.remove(index);
        // Its output has ended, so it is about to as well.
        process.child.wait().ok().map(|status| (name, status, process.unread))
    }

    fn find(&mut self, name: &str) -> Option<&mut Process> {
        self.running.iter_mut().find(|process| process.name == name)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.running {
            kill(&mut process.child);
        }
    }
}

fn kill(child: &mut Child) {
    let _may_have_ended = child.kill();
    let _reaped = child.wait();
}

fn died(name: &str, status: ExitStatus) -> Failure {
    let how = if status.code().is_some() { "ended" } else { "died" };
    format!("{name} has {how} ({status})").into()
}
