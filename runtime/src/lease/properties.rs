use proptest::prelude::*;

use super::*;

/// One renewal: how long after the one before it is asked, how long the answer takes, when in that time the database
/// counts, and whether it renews.
type Renewal = (u64, u64, f64, bool);

fn renewals() -> impl Strategy<Value = Vec<Renewal>> {
    prop::collection::vec((0..20_000_u64, 0..20_000_u64, 0.0..=1.0, prop::bool::weighted(0.8)), 0..12)
}

proptest! {
    /// Whatever the network's delays: who believes in a lease has it. The database is a clock and an `until` here.
    #[test]
    fn a_lease_is_never_believed_longer_than_the_database_grants_it(
        time in 1_000..=600_000_u64, renewals in renewals(), looks in prop::collection::vec(0..700_000_u64, 1..20),
    ) {
        let start = Instant::now();
        let time = Duration::from_millis(time);
        let fence = Fence::new("inbox:billing:07".to_owned(), Uuid::nil(), 1);
        let mut lease = Lease::new(fence, start, time);
        let (mut now, mut granted) = (start, start + time);
        for (wait, takes, counts, renews) in renewals {
            let asked = now + Duration::from_millis(wait);
            let counted = asked + Duration::from_millis(takes).mul_f64(counts);
            // Until the answer is there, the old one is what is believed.
            for look in [asked, counted] {
                prop_assert!(!lease.is_good(look) || look < granted);
            }
            now = asked + Duration::from_millis(takes);
            // One that has run out may be another's: it isn't renewed.
            if renews && counted < granted {
                granted = counted + time;
                lease.renewed(asked, time);
            }
            for look in &looks {
                let look = now + Duration::from_millis(*look);
                prop_assert!(!lease.is_good(look) || look < granted, "{:?} late", look - granted);
            }
        }
    }

    /// It is no lease where nobody can work under it: an answer in good time leaves more than one renewal's time.
    #[test]
    fn a_lease_lasts_until_it_is_renewed_and_once_again(time in 1_000..=600_000_u64) {
        let (asked, time) = (Instant::now(), Duration::from_millis(time));
        let lease = Lease::new(Fence::new(String::new(), Uuid::nil(), 1), asked, time);
        let every = renew_every(time);
        prop_assert!(every > Duration::ZERO && every <= Duration::from_secs(5));
        prop_assert!(lease.is_good(asked) && lease.is_good(asked + 2 * every));
        prop_assert!(!lease.is_good(asked + time));
    }

    #[test]
    fn shares_are_all_there_is_and_fair(total in 0..1_000_usize, live in 0..200_usize) {
        let shares: Vec<_> = (0..live.max(1)).map(|rank| fair_share(total, live, rank)).collect();
        prop_assert_eq!(shares.iter().sum::<usize>(), total);
        prop_assert!(shares.is_sorted_by(|before, after| before >= after), "{shares:?}");
        prop_assert!(shares[0] - shares[shares.len() - 1] <= 1, "{shares:?}");
    }
}
