//! The lane's circuit: whether batches may leave, and how many side by side. Pure, with time passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Backoff;

/// Shut after a failure, then on trial with one batch, then open again.
///
/// Every failure begins a new round. What comes of a batch of an earlier round is old news: a success must not cut the
/// wait short that the broker has asked for since, and eight failures at once are one failure.
#[derive(Debug)]
pub(super) struct Circuit {
    shut_until: Option<Instant>,
    on_trial: bool,
    round: u64,
    backoff: Backoff,
}

impl Circuit {
    pub(super) const fn new(backoff: Backoff) -> Self {
        Self { shut_until: None, on_trial: false, round: 0, backoff }
    }

    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }

    /// When it is no longer shut.
    pub(super) const fn shut_until(&self) -> Option<Instant> {
        self.shut_until
    }

    /// Batches side by side at most.
    pub(super) const fn depth(&self, most: usize) -> usize {
        if self.on_trial { 1 } else { most }
    }

    /// The round that a batch starts in.
    pub(super) const fn round(&self) -> u64 {
        self.round
    }

    /// The broker has answered a batch of that round.
    pub(super) fn answered(&mut self, round: u64) {
        if round == self.round {
            self.shut_until = None;
            self.on_trial = false;
            self.backoff.reset();
        }
    }

    /// A batch of that round has failed, and the broker asked to be left alone for so long; returns the wait.
    pub(super) fn failed(&mut self, round: u64, asked: Duration, now: Instant) -> Duration {
        let until = if round == self.round {
            self.round += 1;
            self.on_trial = true;
            now + asked.max(self.backoff.next())
        } else {
            self.shut_until.map_or(now + asked, |until| until.max(now + asked))
        };
        self.shut_until = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(Backoff::new(Duration::from_secs(1), Duration::from_secs(60)))
    }

    /// Without its jitter of a fifth.
    fn about(wait: Duration) -> u64 {
        [1, 2, 4, 8, 16].into_iter().find(|seconds| wait.as_secs_f64() < *seconds as f64 * 1.25).unwrap_or(99)
    }

    #[test]
    fn failures_side_by_side_are_one_failure() {
        let (mut circuit, now) = (circuit(), Instant::now());
        for _ in 0..8 {
            assert_eq!(about(circuit.failed(0, Duration::ZERO, now)), 1);
        }
        assert!(circuit.is_shut(now));
        let round = circuit.round();
        assert_eq!(about(circuit.failed(round, Duration::ZERO, now)), 2, "the trial has failed");
    }

    #[test]
    fn an_old_success_does_not_open_it() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.failed(0, Duration::from_secs(30), now);
        circuit.answered(0);
        assert!(circuit.is_shut(now + Duration::from_secs(29)));
        assert_eq!(circuit.depth(8), 1);
        circuit.answered(circuit.round());
        assert!(!circuit.is_shut(now));
        assert_eq!(circuit.depth(8), 8);
    }

    #[test]
    fn the_longest_wait_that_the_broker_asks_for_counts() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.failed(0, Duration::from_secs(5), now);
        circuit.failed(0, Duration::from_secs(20), now);
        circuit.failed(0, Duration::from_secs(1), now);
        assert!(circuit.is_shut(now + Duration::from_secs(19)));
        assert!(!circuit.is_shut(now + Duration::from_secs(20)));
    }
}
