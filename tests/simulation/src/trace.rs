//! What happened, line by line, for whoever has to find out why.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// A list of lines with their times. Clones are one list.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    /// None where nobody wants to read it.
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Trace {
    /// A list that is written, or one that is not.
    pub fn new(is_written: bool) -> Self {
        Self { started: Instant::now(), lines: is_written.then(Arc::default) }
    }

    /// Adds what somebody does.
    pub fn say(&self, who: &str, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let at = self.started.elapsed().as_secs_f64();
            lines.lock().unwrap().push(format!("{at:9.3} {who:<12} {}", text()));
        }
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.as_ref().map(|lines| lines.lock().unwrap().clone()).unwrap_or_default()
    }
}
