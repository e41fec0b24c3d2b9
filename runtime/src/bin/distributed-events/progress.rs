//! How far a long command has come: a line on the standard error that is written over, and nothing where nobody looks.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::output::number;

/// No eye reads faster.
const EVERY: Duration = Duration::from_millis(100);

/// The width of the bar in letters.
const WIDTH: u64 = 24;

#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    visible: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// `what` is being done, for example `purged`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, visible: std::io::stderr().is_terminal(), shown: None }
    }

    /// So many rows were dealt with, which is so much of the whole: `Some((3, 10))`, where that is known.
    pub(crate) fn at(&mut self, rows: u64, of: Option<(u64, u64)>) {
        let recent = self.shown.is_some_and(|shown| shown.elapsed() < EVERY);
        if !self.visible || recent {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(self.what, rows, of);
        // A terminal that has gone shows nothing, and the work goes on.
        let _gone = write!(std::io::stderr(), "\r{line}\x1b[K").and_then(|()| std::io::stderr().flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _gone = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, rows: u64, of: Option<(u64, u64)>) -> String {
    let rows = number(rows);
    match of {
        Some((done, whole)) if whole > 0 => {
            let filled = (done.min(whole) * WIDTH / whole) as usize;
            let empty = WIDTH as usize - filled;
            format!("[{}{}] {what}: {rows} rows", "#".repeat(filled), ".".repeat(empty))
        }
        _ => format!("{what}: {rows} rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!(line("purged", 1_234, None), "purged: 1,234 rows");
        assert_eq!(line("sent", 5, Some((1, 2))), "[############............] sent: 5 rows");
        assert!(line("sent", 5, Some((9, 2))).starts_with("[########################]"));
    }
}
