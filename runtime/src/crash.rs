//! Points at which a test lets the process die, as `kill -9` would: nothing is unwound, nothing is flushed. And what a
//! test leaves out, to see that it is missed.
//!
//! Compiled in only with the feature `__crash-points`, which is for this crate's own tests.

/// Every point, in the order of an event's way.
#[cfg(feature = "__crash-points")]
pub const POINTS: &[&str] = &[
    "publish.written",
    "publish.before-commit",
    "publish.after-commit",
    "relay.before-send",
    "inbox.before-ingest",
    "inbox.after-ingest",
    "relay.after-send",
    "relay.before-mark",
    "relay.after-mark",
    "processor.before-mark",
    "processor.marked",
    "processor.before-commit",
    "processor.after-commit",
    "processor.before-attempt",
    "processor.after-attempt",
    "lease.taken",
    "lease.before-renewal",
    "lease.renewed",
];

/// Further points, after `inbox.after-ingest`: where messages are received from a broker, and so settled.
#[cfg(feature = "__crash-points")]
pub const SETTLE_POINTS: &[&str] = &["inbox.before-settle", "inbox.after-settle"];

/// Further points, to which only trouble, or an end, leads.
#[cfg(feature = "__crash-points")]
pub const TROUBLE_POINTS: &[&str] = &[
    "relay.before-dead",
    "relay.after-dead",
    "local.before-owing",
    "local.owed",
    "local.before-paying",
    "local.paid",
    "lease.before-release",
    "lease.released",
];

/// Dies here if `DISTRIBUTED_EVENTS_CRASH_AT` names this point, as `point` or, at the n-th time, `point:n`. If
/// `DISTRIBUTED_EVENTS_STALL_AT` does, its thread stays here for some seconds.
#[cfg(feature = "__crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::LazyLock;

    static CRASH: LazyLock<Option<Place>> = LazyLock::new(|| Place::named_by("DISTRIBUTED_EVENTS_CRASH_AT"));
    static STALL: LazyLock<Option<Place>> = LazyLock::new(|| Place::named_by("DISTRIBUTED_EVENTS_STALL_AT"));
    debug_assert!(
        [POINTS, SETTLE_POINTS, TROUBLE_POINTS].iter().any(|list| list.contains(&name)),
        "{name} is not in the lists"
    );
    if CRASH.as_ref().is_some_and(|place| place.is_at(name)) {
        std::process::abort();
    }
    if STALL.as_ref().is_some_and(|place| place.is_at(name)) {
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
}

/// What keeps secrets out of what is shown: keys and tokens behind their type, wrong settings that may hold one, and the
/// names of databases.
#[cfg(feature = "__crash-points")]
pub const REDACTIONS: &[&str] = &["secret", "config-error", "identity"];

/// Whether `DISTRIBUTED_EVENTS_BREAK` names this protection, so that it is to be left out: `dedupe`, `guard`, `sessions`, or
/// one of the redactions.
#[cfg(feature = "__crash-points")]
pub fn is_broken(protection: &str) -> bool {
    use std::sync::LazyLock;

    static BROKEN: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("DISTRIBUTED_EVENTS_BREAK").ok());
    BROKEN.as_deref() == Some(protection)
}

/// The n-th passing of a point.
#[cfg(feature = "__crash-points")]
struct Place {
    point: String,
    times: u64,
    passed: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "__crash-points")]
impl Place {
    fn named_by(variable: &str) -> Option<Self> {
        let wanted = std::env::var(variable).ok()?;
        let (point, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some(Self { point: point.to_owned(), times: times.parse().unwrap_or(1), passed: 0.into() })
    }

    fn is_at(&self, name: &str) -> bool {
        let order = std::sync::atomic::Ordering::Relaxed;
        self.point == name && self.passed.fetch_add(1, order) + 1 == self.times
    }
}

#[cfg(not(feature = "__crash-points"))]
#[inline]
pub(crate) const fn point(_name: &str) {}

#[cfg(not(feature = "__crash-points"))]
#[inline]
pub(crate) const fn is_broken(_protection: &str) -> bool {
    false
}
