//! The arithmetic of leases and of sharing shards: pure, with time passed in.
//!
//! Safety never rests on a lease (SEMANTICS.md, rule 4): it shares out work and avoids collisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

/// Proof of a lease, checked by the statements that must not run without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fence {
    /// The lease's name.
    pub name: String,
    /// Who took it; fresh at every taking (rule 4).
    pub owner: Uuid,
    /// How often it was taken.
    pub epoch: i64,
}

impl Fence {
    /// A fence as an adapter read it.
    #[must_use]
    pub const fn new(name: String, owner: Uuid, epoch: i64) -> Self {
        Self { name, owner, epoch }
    }
}

/// A lease as its holder sees it: good for new work until a margin before the database calls it expired.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) fence: Fence,
    good_until: Instant,
}

impl Lease {
    /// A lease asked for at `asked`: the database counts from later than that, so this errs on the safe side.
    pub(crate) fn new(fence: Fence, asked: Instant, time: Duration) -> Self {
        Self { fence, good_until: asked + time - margin(time) }
    }

    pub(crate) fn renewed(&mut self, asked: Instant, time: Duration) {
        self.good_until = asked + time - margin(time);
    }

    pub(crate) fn is_good(&self, now: Instant) -> bool {
        now < self.good_until
    }
}

/// How long before its end a lease is no longer used for new work.
fn margin(time: Duration) -> Duration {
    time / 6
}

/// How often leases are renewed: twice within the time they are good for, and often enough that an instance which comes
/// or goes is soon noticed.
pub(crate) fn renew_every(time: Duration) -> Duration {
    (time / 3).min(Duration::from_secs(5))
}

/// How many of `total` shards the instance at `rank` of `live` ones has a fair share of.
pub(crate) fn fair_share(total: usize, live: usize, rank: usize) -> usize {
    let live = live.max(1);
    total / live + usize::from(rank < total % live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for live in 1..=70 {
            let shares: Vec<_> = (0..live).map(|rank| fair_share(64, live, rank)).collect();
            assert_eq!(shares.iter().sum::<usize>(), 64, "{live} instances");
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{live} instances");
        }
    }

    #[test]
    fn a_lease_is_given_up_before_the_database_calls_it_expired() {
        let asked = Instant::now();
        let time = Duration::from_secs(6);
        let fence = Fence::new("outbox:default".to_owned(), Uuid::nil(), 1);
        let mut lease = Lease::new(fence, asked, time);
        assert!(lease.is_good(asked + Duration::from_millis(4_999)));
        assert!(!lease.is_good(asked + Duration::from_secs(5)));
        lease.renewed(asked + Duration::from_secs(2), time);
        assert!(lease.is_good(asked + Duration::from_secs(6)));
    }
}

#[cfg(test)]
mod properties;
