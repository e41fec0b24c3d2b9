//! Points at which a test lets the process die, as `kill -9` would: nothing is unwound, nothing is flushed.
//!
//! Compiled in only with the feature `__crash-points`, which is for this crate's own tests.

/// Every point, in the order of an event's way.
#[cfg(feature = "__crash-points")]
pub const POINTS: &[&str] = &[
    "publish.written",
    "relay.before-send",
    "inbox.before-ingest",
    "inbox.after-ingest",
    "relay.after-send",
    "relay.after-mark",
    "processor.marked",
    "processor.before-commit",
    "processor.after-commit",
    "processor.before-attempt",
    "processor.after-attempt",
    "lease.renewed",
];

/// Dies here if `DISTRIBUTED_EVENTS_CRASH_AT` names this point, as `point` or, at the n-th time, `point:n`.
#[cfg(feature = "__crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("DISTRIBUTED_EVENTS_CRASH_AT").ok()?;
        let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(POINTS.contains(&name), "{name} is not in the list");
    if let Some((wanted, count)) = WANTED.as_ref()
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "__crash-points"))]
#[inline]
pub(crate) const fn point(_name: &str) {}
