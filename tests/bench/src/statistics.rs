//! The arithmetic of a comparison: pairs, ratios, medians, verdicts.

use serde::Serialize;

/// What one round has measured of a subject and of its floor, directly one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    /// The library.
    pub(crate) subject: f64,
    /// What it stands beside.
    pub(crate) floor: f64,
}

/// The middle of several rounds, and how far they went apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The least of the rounds.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Spread {
    /// Of so many values; of none it is not a number.
    pub(crate) fn of(values: &[f64]) -> Self {
        let least = values.iter().copied().fold(f64::NAN, f64::min);
        let most = values.iter().copied().fold(f64::NAN, f64::max);
        Self { median: quantile(values, 0.5), least, most }
    }
}

/// The ratio of each round; a ratio between rounds would compare a quiet moment with a busy one. To nothing there is none.
pub(crate) fn ratios(pairs: &[Pair]) -> Vec<f64> {
    let ratio = |pair: &Pair| if pair.floor > 0.0 { pair.subject / pair.floor } else { f64::NAN };
    pairs.iter().map(ratio).collect()
}

/// The value below which that share of the others lies, between two of them where it falls there.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// What a ratio has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// Of what is better when greater.
    AtLeast(f64),
    /// Of what is better when smaller.
    AtMost(f64),
}

/// Whether it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// By the median of the rounds.
    Reached,
    /// Not by it.
    Missed,
}

impl Target {
    /// A ratio that is not a number reaches nothing.
    pub(crate) fn verdict(self, ratio: f64) -> Verdict {
        let reached = match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        };
        if reached { Verdict::Reached } else { Verdict::Missed }
    }

    /// How near a ratio is: 1 at the target, more where it is better.
    pub(crate) fn nearness(self, ratio: f64) -> f64 {
        match self {
            Self::AtLeast(target) => ratio / target,
            Self::AtMost(target) => target / ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between_the_two_in_the_middle() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_quantile_leaves_its_share_below() {
        let hundred: Vec<_> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.95), 95.0);
        assert_eq!(quantile(&hundred, 0.999), 99.9);
        assert_eq!(quantile(&hundred, 2.0), 100.0);
    }

    /// The median of ratios, not the ratio of medians: here that would be 1.
    #[test]
    fn each_round_has_its_own_ratio() {
        let pair = |subject, floor| Pair { subject, floor };
        let pairs = [pair(10.0, 20.0), pair(30.0, 10.0), pair(5.0, 5.0), pair(20.0, 40.0), pair(20.0, 20.0)];
        assert_eq!(ratios(&pairs), [0.5, 3.0, 1.0, 0.5, 1.0]);
        assert_eq!(Spread::of(&ratios(&pairs)), Spread { median: 1.0, least: 0.5, most: 3.0 });
    }

    #[test]
    fn nothing_is_no_floor() {
        let [ratio] = ratios(&[Pair { subject: 1.0, floor: 0.0 }])[..] else { panic!("one pair, one ratio") };
        assert_eq!(Target::AtLeast(1.0).verdict(ratio), Verdict::Missed);
    }

    #[test]
    fn a_target_is_reached_at_its_edge_and_by_no_number_only() {
        assert_eq!(Target::AtLeast(0.65).verdict(0.65), Verdict::Reached);
        assert_eq!(Target::AtLeast(0.65).verdict(0.649), Verdict::Missed);
        assert_eq!(Target::AtMost(1.5).verdict(1.5), Verdict::Reached);
        assert_eq!(Target::AtMost(1.5).verdict(1.51), Verdict::Missed);
        assert_eq!(Target::AtMost(1.5).verdict(f64::NAN), Verdict::Missed);
        assert_eq!(Target::AtLeast(0.0).verdict(f64::NAN), Verdict::Missed);
    }

    #[test]
    fn better_is_always_more_than_one() {
        assert_eq!(Target::AtLeast(0.5).nearness(1.0), 2.0);
        assert_eq!(Target::AtMost(1.5).nearness(3.0), 0.5);
    }
}
