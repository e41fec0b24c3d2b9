//! When to try again: pure arithmetic over attempts.

use std::time::Duration;

use crate::chance;

/// How often and how soon a failed handler is tried again, with exponential backoff.
///
/// ```
/// use distributed_events::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default().attempts(5).initial(Duration::from_millis(100)).jitter(0.0);
/// assert_eq!(policy.delay_after(1, 0.0), Some(Duration::from_millis(100)));
/// assert_eq!(policy.delay_after(2, 0.0), Some(Duration::from_millis(200)));
/// assert_eq!(policy.delay_after(5, 0.0), None); // out of attempts
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    attempts: u32,
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: f64,
}

impl Default for RetryPolicy {
    /// [`RetryPolicy::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl RetryPolicy {
    /// 10 attempts, first after 1 s, doubling up to 5 minutes, 20 % jitter.
    pub const DEFAULT: Self = Self {
        attempts: 10,
        initial: Duration::from_secs(1),
        max: Duration::from_secs(300),
        multiplier: 2.0,
        jitter: 0.2,
    };

    /// How many times the handler runs at most before its event is dead; at least 1.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The wait after the first failure.
    #[must_use]
    pub const fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// The longest wait, before jitter.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// By how much each wait grows over the one before; at least 1.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// The share of a wait that is random, 0 to 1: 0.2 makes 10 s anything from 8 to 12 s.
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many times the handler runs at most.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// The wait after the `attempt`-th failure (the first is 1), or `None` when there is no further attempt.
    ///
    /// `random` is between 0 and 1 and decides the jitter, so that the schedule is a function of its arguments.
    #[must_use]
    pub fn delay_after(&self, attempt: u32, random: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let base = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        // An overflow to infinity is capped here, and the cap is finite. Nothing times infinity is no number.
        let capped = if self.initial.is_zero() { 0.0 } else { base.min(self.max.as_secs_f64()) };
        let spread = (random.clamp(0.0, 1.0) * 2.0 - 1.0) * self.jitter;
        let wait = (capped * (1.0 + spread)).max(0.0);
        // A policy that no bus takes may ask for more than a duration holds.
        Some(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }

    /// What is wrong with the policy, if anything, as a sentence.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.attempts == 0 {
            return Some("retry attempts must be at least 1: with 0 no handler would ever run".to_owned());
        }
        if !self.multiplier.is_finite() || self.multiplier < 1.0 {
            return Some(format!("retry multiplier must be at least 1, not {}", self.multiplier));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Some(format!("retry jitter must be between 0 and 1, not {}", self.jitter));
        }
        if self.initial > self.max {
            return Some(format!("retry initial ({:?}) is longer than max ({:?})", self.initial, self.max));
        }
        // Keeps next_attempt_at inside what every database's timestamps can hold.
        (self.max > Duration::from_secs(365 * 24 * 3600))
            .then(|| format!("retry max must be at most 365 days, not {:?}", self.max))
    }
}

/// A backoff of a loop that has lost its database or broker: no limit of attempts, doubled each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    policy: RetryPolicy,
}

impl Backoff {
    pub(crate) const fn new(initial: Duration, max: Duration) -> Self {
        let policy = RetryPolicy { attempts: u32::MAX, initial, max, multiplier: 2.0, jitter: 0.2 };
        Self { failures: 0, policy }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1).min(64);
        self.policy.delay_after(self.failures, chance::unit()).unwrap_or(self.policy.max)
    }
}

#[cfg(test)]
mod properties;
