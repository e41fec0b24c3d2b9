//! How an inbox is set.

use std::time::Duration;

use crate::retry::RetryPolicy;

/// How a service's inbox is filled and processed; the defaults need no touching.
///
/// ```
/// use distributed_events::{InboxSettings, RetryPolicy};
///
/// let settings = InboxSettings::default().workers(8).retry(RetryPolicy::default().attempts(5));
/// ```
#[derive(Clone, Debug)]
pub struct InboxSettings {
    pub(crate) poll_interval: Duration,
    pub(crate) receive_batch: usize,
    pub(crate) page_size: u32,
    pub(crate) workers: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) handler_timeout: Option<Duration>,
    pub(crate) lease_time: Duration,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) keep_bodies: Duration,
    pub(crate) keep_keys: Duration,
    pub(crate) sweep: Duration,
}

impl Default for InboxSettings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(500),
            receive_batch: 200,
            page_size: 100,
            workers: 4,
            retry: RetryPolicy::default(),
            handler_timeout: None,
            lease_time: Duration::from_secs(30),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            keep_bodies: Duration::from_secs(7 * 24 * 3600),
            keep_keys: Duration::from_secs(30 * 24 * 3600),
            sweep: Duration::from_secs(5),
        }
    }
}

impl InboxSettings {
    /// The longest wait between two looks at an idle inbox (default 500 ms); hints make it quicker.
    #[must_use]
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Messages received and stored at a time at most (default 200).
    #[must_use]
    pub const fn receive_batch(mut self, messages: usize) -> Self {
        self.receive_batch = messages;
        self
    }

    /// Handlers at work at a time, for each subscription (default 4). A database with one writer at a time, as SQLite,
    /// runs them one after the other all the same.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The retry policy of handlers that name none.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long a handler may run that names no timeout (default: 5 s on SQLite, 30 s elsewhere).
    #[must_use]
    pub const fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = Some(timeout);
        self
    }

    /// How long the shards of a dead instance wait for another (default 30 s).
    #[must_use]
    pub const fn lease_time(mut self, time: Duration) -> Self {
        self.lease_time = time;
        self
    }

    /// The wait after a database's or broker's first failure (default 100 ms), and the longest (default 5 s).
    #[must_use]
    pub const fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff_initial = initial;
        self.backoff_max = max;
        self
    }

    /// How long bodies of processed events are kept (default 7 days).
    #[must_use]
    pub const fn keep_bodies(mut self, time: Duration) -> Self {
        self.keep_bodies = time;
        self
    }

    /// The dedupe horizon: how long the keys of processed events are kept, so that one sent again is known (default 30
    /// days). An event older than this is never run by itself: it ends dead.
    #[must_use]
    pub const fn keep_keys(mut self, time: Duration) -> Self {
        self.keep_keys = time;
        self
    }

    /// What is wrong with these settings, as sentences.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = self.retry.problem().into_iter().collect();
        let mut refuse = |bad: bool, text: &str| {
            if bad {
                problems.push(text.to_owned());
            }
        };
        refuse(
            self.poll_interval.is_zero(),
            "inbox poll_interval is zero: the processor would never rest; 10 ms or more is sensible",
        );
        refuse(
            self.poll_interval > Duration::from_secs(60),
            "inbox poll_interval is above 60 s: an event whose hint was missed would wait that long",
        );
        refuse(self.workers == 0, "inbox workers is 0: no handler would ever run");
        refuse(self.receive_batch == 0, "inbox receive_batch is 0: nothing would ever be received");
        refuse(
            self.receive_batch > 2000,
            "inbox receive_batch is above 2,000: such a transaction holds its locks too long",
        );
        refuse(
            self.lease_time < Duration::from_secs(1),
            "inbox lease_time is below 1 s: a short pause would cost the shards",
        );
        refuse(
            self.lease_time > Duration::from_secs(600),
            "inbox lease_time is above 10 minutes: a crash would stop its sessions for that long",
        );
        refuse(
            self.backoff_initial.is_zero() || self.backoff_initial > self.backoff_max,
            "inbox backoff must start above zero and not above its maximum",
        );
        refuse(
            self.keep_bodies > self.keep_keys,
            "inbox keep_bodies is longer than keep_keys: a body without its key could not be told from a new event",
        );
        problems
    }
}
