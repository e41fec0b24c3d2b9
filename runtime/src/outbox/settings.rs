//! How an outbox relay is set.

use std::time::Duration;

/// How the outbox of a lane is relayed; the defaults need no touching.
///
/// ```
/// use distributed_events::OutboxSettings;
/// use std::time::Duration;
///
/// let settings = OutboxSettings::default().poll_interval(Duration::from_millis(200)).in_flight(4);
/// ```
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    pub(crate) poll_interval: Duration,
    pub(crate) page_size: u32,
    pub(crate) batch_size: usize,
    pub(crate) in_flight: usize,
    pub(crate) lease_time: Duration,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) retention: Option<Duration>,
    pub(crate) sweep: Duration,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(500),
            page_size: 500,
            batch_size: 100,
            in_flight: 8,
            lease_time: Duration::from_secs(30),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            retention: Some(Duration::from_secs(7 * 24 * 3600)),
            sweep: Duration::from_secs(5),
        }
    }
}

impl OutboxSettings {
    /// The longest wait between two looks at an idle outbox (default 500 ms); hints make it quicker.
    #[must_use]
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Events in one batch to the broker at most (default 100); the broker's own limits come on top.
    #[must_use]
    pub const fn batch_size(mut self, events: usize) -> Self {
        self.batch_size = events;
        self
    }

    /// Batches under way at a time (default 8).
    #[must_use]
    pub const fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches;
        self
    }

    /// How long a dead leader keeps others waiting (default 30 s).
    #[must_use]
    pub const fn lease_time(mut self, time: Duration) -> Self {
        self.lease_time = time;
        self
    }

    /// The wait after a broker's first failure (default 100 ms), and the longest (default 30 s).
    #[must_use]
    pub const fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff_initial = initial;
        self.backoff_max = max;
        self
    }

    /// How long sent rows are kept (default 7 days).
    #[must_use]
    pub const fn keep_sent(mut self, time: Duration) -> Self {
        self.retention = Some(time);
        self
    }

    /// Deletes rows as soon as they are sent; nothing can then be resent from this outbox.
    #[must_use]
    pub const fn delete_sent(mut self) -> Self {
        self.retention = None;
        self
    }

    /// What is wrong with these settings, as sentences.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut refuse = |bad: bool, text: &str| {
            if bad {
                problems.push(text.to_owned());
            }
        };
        refuse(
            self.poll_interval.is_zero(),
            "outbox poll_interval is zero: the relay would never rest; 10 ms or more is sensible",
        );
        refuse(
            self.poll_interval > Duration::from_secs(60),
            "outbox poll_interval is above 60 s: an event whose hint was missed would wait that long",
        );
        refuse(self.batch_size == 0, "outbox batch_size is 0: nothing would ever be sent");
        refuse(self.in_flight == 0, "outbox in_flight is 0: nothing would ever be sent");
        refuse(
            self.in_flight > 256,
            "outbox in_flight is above 256: brokers refuse so many unsettled batches on one link",
        );
        refuse(
            self.lease_time < Duration::from_secs(1),
            "outbox lease_time is below 1 s: a short pause would cost the leadership",
        );
        refuse(
            self.lease_time > Duration::from_secs(600),
            "outbox lease_time is above 10 minutes: a crash would stop the lane for that long",
        );
        refuse(
            self.backoff_initial.is_zero() || self.backoff_initial > self.backoff_max,
            "outbox backoff must start above zero and not above its maximum",
        );
        problems
    }
}
