//! The deliveries of a session that its client hasn't settled.

use std::collections::VecDeque;

use super::link::LinkId;
use crate::model::LockToken;

/// Deliveries that may stand between the oldest that isn't settled and the next one: what is older than that can't be
/// settled any more, and its lock is long over.
const MOST: usize = 100_000;

/// By their numbers, which follow each other: the oldest stands first, and what is settled leaves a gap.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    deliveries: VecDeque<Option<(LinkId, LockToken)>>,
    /// The number of the first.
    first: u32,
}

impl Unsettled {
    /// A delivery that the client is to settle. Numbers come in order; those between that didn't come are settled.
    pub(super) fn add(&mut self, delivery: u32, link: LinkId, token: LockToken) {
        if self.deliveries.is_empty() || self.place(delivery) > MOST {
            self.deliveries.clear();
            self.first = delivery;
        }
        let gap = self.place(delivery).saturating_sub(self.deliveries.len());
        self.deliveries.extend(std::iter::repeat_n(None, gap));
        self.deliveries.push_back(Some((link, token)));
        if self.deliveries.len() > MOST {
            self.forget_first();
        }
    }

    /// Takes the deliveries of a range, which may go over the end of the numbers, in their order.
    pub(super) fn take(&mut self, first: u32, last: u32) -> Vec<(u32, LinkId, LockToken)> {
        // What is before the oldest stands behind all others, by the numbers' own arithmetic.
        let (from, to) = (self.place(first), self.place(last));
        let from = if from <= to { from } else { 0 };
        let to = to.min(self.deliveries.len().saturating_sub(1));
        let mut taken = Vec::new();
        for place in from..=to {
            if let Some((link, token)) = self.deliveries.get_mut(place).and_then(Option::take) {
                // There are never so many that a place is no number.
                let number = self.first.wrapping_add(u32::try_from(place).unwrap_or(u32::MAX));
                taken.push((number, link, token));
            }
        }
        while let Some(None) = self.deliveries.front() {
            self.forget_first();
        }
        taken
    }

    /// A link is gone, and with it all that it had.
    pub(super) fn drop_link(&mut self, link: LinkId) {
        for delivery in &mut self.deliveries {
            if delivery.is_some_and(|(owner, _)| owner == link) {
                *delivery = None;
            }
        }
        while let Some(None) = self.deliveries.front() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        self.deliveries.pop_front();
        self.first = self.first.wrapping_add(1);
    }

    fn place(&self, delivery: u32) -> usize {
        delivery.wrapping_sub(self.first) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn token(number: u32) -> LockToken {
        LockToken(Uuid::from_u128(number.into()))
    }

    proptest! {
        #[test]
        fn what_was_added_is_taken_once(
            start in prop_oneof![0..3u32, u32::MAX - 20..u32::MAX],
            acts in proptest::collection::vec((0..4u8, 0..30u32, 0..30u32), 0..60),
        ) {
            let mut unsettled = Unsettled::default();
            // By what was added to the start, so that there is an order round the corner.
            let mut expected = BTreeMap::new();
            let mut next = 0u32;
            for (act, a, b) in acts {
                match act {
                    0 | 1 => {
                        next += u32::from(act);
                        let link = u64::from(a % 3);
                        unsettled.add(start.wrapping_add(next), link, token(next));
                        expected.insert(next, link);
                        next += 1;
                    }
                    2 => {
                        let (from, to) = (a.min(b), a.max(b));
                        let taken = unsettled.take(start.wrapping_add(from), start.wrapping_add(to));
                        let there: Vec<u32> = expected.range(from..=to).map(|(number, _)| *number).collect();
                        let there: Vec<_> = there
                            .into_iter()
                            .filter_map(|n| Some((start.wrapping_add(n), expected.remove(&n)?, token(n))))
                            .collect();
                        prop_assert_eq!(taken, there);
                    }
                    _ => {
                        unsettled.drop_link(u64::from(a % 3));
                        expected.retain(|_, link| *link != u64::from(a % 3));
                    }
                }
            }
        }
    }

    #[test]
    fn the_oldest_are_forgotten_and_ranges_may_be_of_any_size() {
        let mut unsettled = Unsettled::default();
        for number in 0..150_000 {
            unsettled.add(number, 1, token(number));
        }
        assert_eq!(unsettled.deliveries.len(), MOST);
        assert!(unsettled.take(0, 49_999).is_empty());
        assert_eq!(unsettled.take(0, 50_000).len(), 1);
        assert_eq!(unsettled.take(0, u32::MAX).len(), MOST - 1);
        assert!(unsettled.take(0, u32::MAX).is_empty());
        for number in [200_000, 250_000, 900_000] {
            unsettled.add(number, 1, token(number));
        }
        assert_eq!(unsettled.take(0, u32::MAX), [(900_000, 1, token(900_000))]);
    }
}
