//! Where the host has its time from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::model::Time;

/// A source of time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// A test's, which goes on when it is told to.
    Manual(ManualClock),
}

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<(AtomicU64, Notify)>);

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(time: Time) -> Self {
        Self(Arc::new((AtomicU64::new(time.0), Notify::new())))
    }

    /// Moves the clock on. What is due by then happens with the next input or look at the model, at the latest.
    pub fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.0.fetch_add(milliseconds, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Manual(clock) => Time(clock.0.0.load(Ordering::SeqCst)),
        }
    }

    /// Resolves at that time, or an hour later than now where that comes first.
    pub(super) async fn reach(&self, time: Time) {
        match self {
            Self::System => {
                let wait = Duration::from_millis(time.0.saturating_sub(self.now().0));
                tokio::time::sleep(wait.min(Duration::from_secs(3600))).await;
            }
            Self::Manual(clock) => loop {
                let moved = clock.0.1.notified();
                if self.now() >= time {
                    return;
                }
                moved.await;
            },
        }
    }
}
