//! How soon a loop looks again: pure arithmetic over what it found and when.

use std::time::Duration;

use tokio::time::Instant;

/// After a hint a loop looks every 1, 2, 4, 8 ms for this long: a publish is hinted before its commit.
const HINT_WINDOW: Duration = Duration::from_millis(100);
const HINT_FIRST: Duration = Duration::from_millis(1);
const HINT_LAST: Duration = Duration::from_millis(8);
/// How often a loop that is busy looks at what need not be seen at once.
pub(crate) const BUSY: Duration = Duration::from_millis(10);

/// The pace of one loop: quick after a hint, 10 ms when busy, backing off to `idle`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    idle: Duration,
    wait: Duration,
    hinted_until: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, wait: BUSY.min(idle), hinted_until: None }
    }

    /// Something may be there soon.
    pub(crate) fn hint(&mut self, now: Instant) {
        self.hinted_until = Some(now + HINT_WINDOW);
        self.wait = HINT_FIRST.min(self.idle);
    }

    /// The last look found something.
    pub(crate) fn found(&mut self) {
        self.wait = BUSY.min(self.idle);
    }

    /// The last look found nothing: how long to wait before the next.
    pub(crate) fn nothing(&mut self, now: Instant) -> Duration {
        let wait = self.wait;
        let hinted = self.hinted_until.is_some_and(|until| now < until);
        if !hinted {
            self.hinted_until = None;
        }
        let longest = if hinted { HINT_LAST } else { self.idle };
        let next = if hinted { wait * 2 } else { (wait * 2).max(BUSY) };
        self.wait = next.min(longest).min(self.idle);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(pace: &mut Pace, mut now: Instant, count: usize) -> Vec<u64> {
        let mut out = Vec::new();
        for _ in 0..count {
            let wait = pace.nothing(now);
            now += wait;
            out.push(u64::try_from(wait.as_millis()).unwrap());
        }
        out
    }

    #[test]
    fn backs_off_to_the_idle_interval() {
        let mut pace = Pace::new(Duration::from_millis(500));
        assert_eq!(waits(&mut pace, Instant::now(), 8), [10, 20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn a_hint_is_followed_closely_and_then_forgotten() {
        let mut pace = Pace::new(Duration::from_millis(500));
        let now = Instant::now();
        pace.hint(now);
        let waits = waits(&mut pace, now, 18);
        assert_eq!(waits[..5], [1, 2, 4, 8, 8]);
        assert_eq!(waits[17], 32, "{waits:?}");
    }

    #[test]
    fn never_waits_longer_than_the_idle_interval() {
        let mut pace = Pace::new(Duration::from_millis(2));
        assert!(waits(&mut pace, Instant::now(), 10).iter().all(|wait| *wait <= 2));
    }
}
