//! All that is logged in this process, by whatever crate and however finely, through `tracing` or `log`.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

static LOGGED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Collects from now on, once and for all.
pub(super) fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        tracing::subscriber::set_global_default(Everything { spans: AtomicU64::new(1) }).unwrap();
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// What was logged so far, each line with the crate's module that has logged it.
pub(super) fn logged() -> Vec<(String, String)> {
    lines().clone()
}

fn lines() -> MutexGuard<'static, Vec<(String, String)>> {
    LOGGED.lock().unwrap()
}

fn add(target: &str, line: String) {
    lines().push((format!("the log of {target}"), line));
}

/// A subscriber that takes every event and every span, with all fields.
struct Everything {
    spans: AtomicU64,
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _never_fails = write!(self.0, "{field}={value:?} ");
    }

    // Else their quotation marks and backslashes are escaped.
    fn record_str(&mut self, field: &Field, value: &str) {
        let _never_fails = write!(self.0, "{field}={value} ");
    }
}

impl tracing::Subscriber for Everything {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = format!("span {} ", span.metadata().name());
        span.record(&mut Fields(&mut line));
        add(span.metadata().target(), line);
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = String::new();
        values.record(&mut Fields(&mut line));
        add("a span", line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        add(event.metadata().target(), line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The same for crates that use `log`.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        add(record.target(), record.args().to_string());
    }

    fn flush(&self) {}
}
