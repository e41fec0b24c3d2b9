//! Waiting for a condition instead of for a time.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// How long anything may take before a test fails: generous, since a slow machine is no defect.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Awaits a condition, looking every few milliseconds; panics with the last value seen when [`DEADLINE`] has passed.
pub async fn eventually<T: Debug, F: Future<Output = T>>(
    what: &str,
    look: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> T {
    within(DEADLINE, what, look, holds).await
}

/// The same with a deadline of one's own.
pub async fn within<T: Debug, F: Future<Output = T>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> T {
    let end = tokio::time::Instant::now() + deadline;
    loop {
        let seen = look().await;
        if holds(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not within {deadline:?}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
