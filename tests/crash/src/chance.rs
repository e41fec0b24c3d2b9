//! Numbers by a seed: the same seed, the same numbers.

/// SplitMix64: every seed is as good as any other.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// By this seed.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed of one's own for the `n`-th of something.
    pub fn nth(seed: u64, n: u64) -> Self {
        let mut first = Self(seed);
        Self(first.next().wrapping_add(n.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether it happens, so many times of a hundred.
    pub const fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap_or_default()]
    }
}

/// The seed of `DISTRIBUTED_EVENTS_SEED`, else a new one.
pub fn seed() -> u64 {
    let given = std::env::var("DISTRIBUTED_EVENTS_SEED").ok();
    given.map_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32, |seed| seed.parse().unwrap())
}
