//! Random numbers and fresh ids: the process's own, or, in a simulation, those of its seed.

use uuid::Uuid;

/// A random number between 0 and 1.
pub(crate) fn unit() -> f64 {
    let bits = id().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

/// A fresh random id (UUID version 4).
pub(crate) fn id() -> Uuid {
    #[cfg(feature = "testing")]
    if let Some(bits) = seeded::bits() {
        return uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
    }
    Uuid::new_v4()
}

/// A fresh id that is ordered by the time of its making (UUID version 7).
pub(crate) fn id_by_time() -> Uuid {
    #[cfg(feature = "testing")]
    if let Some(bits) = seeded::bits() {
        let [low, high] = [bits as u64, (bits >> 64) as u64].map(u64::to_be_bytes);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&low);
        random[8..].copy_from_slice(&high[..2]);
        return uuid::Builder::from_unix_timestamp_millis(seeded::clock(), &random).into_uuid();
    }
    Uuid::now_v7()
}

/// The numbers of a seed, for the thread that a simulation runs on.
#[cfg(feature = "testing")]
pub(crate) mod seeded {
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static STATE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// While this lives, the library's random numbers, fresh ids and hints on its thread are those of a seed, so that a test
    /// on a single-threaded runtime in paused time runs the same way again.
    ///
    /// It belongs to its thread, and so do the buses that are started while it lives: they hear no hint from elsewhere, and
    /// only every second one of their own.
    ///
    /// ```
    /// use distributed_events::{EventId, testing::Seeded};
    ///
    /// let first = { let _seeded = Seeded::by(7); EventId::new() };
    /// let again = { let _seeded = Seeded::by(7); EventId::new() };
    /// assert_eq!(first, again);
    /// ```
    #[derive(Debug)]
    pub struct Seeded {
        /// What was there before: one may stand within another.
        before: Option<(u64, u64)>,
        /// Belongs to its thread.
        _stays: PhantomData<*const ()>,
    }

    impl Seeded {
        /// By this seed, from now on.
        #[must_use]
        pub fn by(seed: u64) -> Self {
            Self { before: STATE.replace(Some((seed, 0))), _stays: PhantomData }
        }
    }

    impl Drop for Seeded {
        fn drop(&mut self) {
            STATE.set(self.before);
        }
    }

    pub(crate) fn is_on() -> bool {
        STATE.get().is_some()
    }

    /// The next bits, if the thread has a seed.
    pub(super) fn bits() -> Option<u128> {
        let (state, count) = STATE.get()?;
        let mut numbers = Numbers(state);
        let high = numbers.next();
        let low = numbers.next();
        STATE.set(Some((numbers.0, count + 1)));
        Some(u128::from(high) << 64 | u128::from(low))
    }

    /// How many numbers were drawn so far, which stands for the time.
    pub(super) fn clock() -> u64 {
        STATE.get().map_or(0, |(_, count)| count)
    }

    /// `SplitMix64`: every seed is as good as any other.
    #[derive(Clone, Debug)]
    pub(crate) struct Numbers(u64);

    impl Numbers {
        /// Those of a seed for the `n`-th of something that has a name.
        #[cfg(feature = "sqlite")]
        pub(crate) fn named(seed: u64, name: &[&str], n: u64) -> Self {
            let bytes = name.iter().flat_map(|part| part.bytes().chain([0]));
            // FNV-1a.
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let mut first = Self(seed ^ hash);
            Self(first.next().wrapping_add(n.wrapping_mul(0xd134_2543_de82_ef95)))
        }

        pub(crate) const fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        /// A number below `end`.
        #[cfg(feature = "sqlite")]
        pub(crate) const fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }

        /// Whether it happens, so many times of a hundred.
        #[cfg(feature = "sqlite")]
        pub(crate) const fn happens(&mut self, percent: u64) -> bool {
            self.below(100) < percent
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_ids_again_until_it_is_dropped() {
        let ids = |seed| {
            let _seeded = seeded::Seeded::by(seed);
            (id(), id_by_time(), unit().to_bits())
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
        assert_eq!(ids(7).0.get_version_num(), 4);
        assert_eq!(ids(7).1.get_version_num(), 7);
        assert_ne!(id(), id());
    }
}
