use proptest::prelude::*;

use super::*;

/// Any policy that a bus takes.
fn sound() -> impl Strategy<Value = RetryPolicy> {
    let initial = prop_oneof![Just(0), 1..10_000_u64, 0..=365 * 24 * 3_600_000_u64];
    let multiplier = prop_oneof![Just(1.0), Just(2.0), 1.0..3.0, 1.0..1e6];
    // Some with more attempts than a float can double.
    let attempts = prop_oneof![9 => 1..100_u32, 1 => 1_000..1_500_u32];
    (attempts, initial, 0..=365 * 24 * 3_600_000_u64, multiplier, 0.0..=1.0)
        .prop_map(|(attempts, initial, longer, multiplier, jitter)| {
            let max = initial.max(longer);
            let [initial, max] = [initial, max].map(Duration::from_millis);
            RetryPolicy { attempts, initial, max, multiplier, jitter }
        })
        .prop_filter("a bus refuses it", |policy| policy.problem().is_none())
}

/// What a float can't tell apart.
fn near(left: Duration, right: Duration) -> bool {
    let difference = left.abs_diff(right);
    difference <= Duration::from_micros(1) || difference.as_secs_f64() < left.as_secs_f64() * 1e-9
}

proptest! {
    #[test]
    fn waits_grow_from_the_first_to_the_longest_and_end_with_the_attempts(policy in sound()) {
        let wait = |attempt| policy.delay_after(attempt, 0.5);
        if policy.attempts > 1 {
            prop_assert!(near(wait(1).unwrap(), policy.initial));
        }
        let mut before = Duration::ZERO;
        for attempt in 1..policy.attempts {
            let now = wait(attempt).unwrap();
            prop_assert!(now >= before && (now <= policy.max || near(now, policy.max)), "{attempt}: {before:?}, then {now:?}");
            // By how much it may grow at most; nothing grows out of nothing.
            let most = before.mul_f64(policy.multiplier.min(1e9));
            prop_assert!(attempt == 1 || now <= most || near(now, most), "{attempt}: {before:?}, then {now:?}");
            prop_assert!(attempt == 1 || near(now, most.min(policy.max)), "{attempt}: {before:?}, then {now:?}");
            before = now;
        }
        for attempt in [policy.attempts, policy.attempts + 1, u32::MAX] {
            prop_assert_eq!(wait(attempt), None);
        }
    }

    #[test]
    fn jitter_is_a_share_to_either_side(policy in sound(), attempt in 1..1_500_u32, dice in (0.0..=1.0, 0.0..=1.0)) {
        let policy = policy.attempts(u32::MAX);
        let at = |random| policy.delay_after(attempt, random).unwrap();
        let (low, high) = if dice.0 <= dice.1 { (dice.0, dice.1) } else { (dice.1, dice.0) };
        prop_assert!(at(0.0) <= at(low) && at(low) <= at(high) && at(high) <= at(1.0));
        prop_assert!(near(at(0.0), at(0.5).mul_f64(1.0 - policy.jitter)));
        prop_assert!(near(at(1.0), at(0.5).mul_f64(1.0 + policy.jitter)));
    }

    /// `delay_after` is public, and nobody is made to ask whether a policy is sound.
    #[test]
    fn no_policy_panics(
        attempts: u32, attempt: u32, times in (any::<Duration>(), any::<Duration>()),
        numbers in (prop::num::f64::ANY, prop::num::f64::ANY, prop::num::f64::ANY),
    ) {
        let (initial, max) = times;
        let policy = RetryPolicy { attempts, initial, max, multiplier: numbers.0, jitter: numbers.1 };
        prop_assert_eq!(policy.delay_after(attempt, numbers.2).is_none(), attempt >= attempts);
        let _any = policy.problem();
    }

    #[test]
    fn a_loop_waits_longer_each_time_and_begins_anew(
        initial in 1..1_000_u64, times in 1..1_000_u64, failures in 1..100_u32,
    ) {
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(initial * times));
        let mut backoff = Backoff::new(initial, max);
        let within = |wait: Duration, middle: Duration| {
            let (least, most) = (middle.mul_f64(0.8), middle.mul_f64(1.2));
            (wait >= least || near(wait, least)) && (wait <= most || near(wait, most))
        };
        for failure in 0..failures {
            let wait = backoff.next();
            let middle = initial.saturating_mul(2_u32.saturating_pow(failure)).min(max);
            prop_assert!(within(wait, middle), "{failure}: {wait:?} where {middle:?} is the middle");
        }
        backoff.reset();
        prop_assert!(within(backoff.next(), initial));
    }
}

#[test]
fn an_event_that_is_tried_again_at_once_is_so_every_time() {
    let policy = RetryPolicy::DEFAULT.initial(Duration::ZERO).attempts(5_000);
    assert_eq!(policy.delay_after(4_000, 0.5), Some(Duration::ZERO), "nothing, doubled often, is nothing");
}
