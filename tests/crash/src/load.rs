//! The orders, by the seed: whoever starts anew goes on with the same ones.

use std::time::Duration;

use crate::chance::Chance;
use crate::events::Fate;

/// Accounts, of which the first is [`LOOSE`](crate::events::LOOSE).
pub const ACCOUNTS: i64 = 13;
/// What each has at first.
pub const OPENING_CENTS: i64 = 1_000_000_000;

/// One order: a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The account.
    pub session: i64,
    /// Its lines: cents, and what becomes of them.
    pub lines: Vec<(i64, Fate)>,
    /// How long the transaction stays open after it has published.
    pub dwells: Duration,
    /// Whether it is rolled back after it has published.
    pub rolled_back: bool,
}

impl Order {
    /// The order of this number.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut chance = Chance::nth(seed, number);
        let session = i64::try_from(chance.below(ACCOUNTS as u64)).unwrap();
        let lines = (0..=chance.below(3))
            .map(|_| {
                let fate = match chance.below(100) {
                    0..2 => Fate::Refused,
                    2..12 => Fate::Retried,
                    _ => Fate::Billed,
                };
                (i64::try_from(1 + chance.below(10_000)).unwrap(), fate)
            })
            .collect();
        let dwells = Duration::from_millis(chance.below(8));
        Self { session, lines, dwells, rolled_back: chance.happens(15) }
    }
}

/// How many of the first so many orders are committed.
pub fn committed(seed: u64, orders: u64) -> i64 {
    (0..orders).filter(|number| !Order::of(seed, *number).rolled_back).count().try_into().unwrap()
}
