//! What a shard's holder believes of its sessions, against a plain list of who waits until when.

use std::collections::BTreeMap;
use std::time::SystemTime;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::envelope::EventId;
use crate::storage::{Body, Fence, IncomingEvent};

const SWEEP: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    /// A handler fails: its row, or its session, waits so long.
    Fail { seq: i64, wait: u64 },
    /// Time goes by, and the shard is looked after.
    Wait(u64),
    /// Reading has come to the end.
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_i64, prop_oneof![0..20_u64, 0..30_000_u64]).prop_map(|(seq, wait)| Step::Fail { seq, wait }),
        4 => prop_oneof![0..20_u64, 4_980..5_010_u64, 0..90_000_u64].prop_map(Step::Wait),
        3 => Just(Step::End),
    ]
}

/// Rows 0 to 3 belong to two sessions, the others to none.
fn row(seq: i64) -> InboxRow {
    let id = EventId::from_uuid(Uuid::from_u128(seq as u128));
    let mut event = IncomingEvent::new(id, "e", Body::Text(String::new()));
    event.session_id = (seq < 4).then(|| format!("session-{}", seq % 2));
    InboxRow::new(seq, event, SystemTime::UNIX_EPOCH)
}

fn shard(now: Instant) -> Shard<()> {
    let fence = Fence::new("inbox:billing:07".to_owned(), Uuid::nil(), 1);
    let lease = Lease::new(fence, now, Duration::from_secs(30));
    Shard::new(7, lease, Watermark::new(false), false, now, SWEEP)
}

proptest! {
    #[test]
    fn a_session_waits_its_time_and_no_longer_than_the_next_look(steps in prop::collection::vec(step(), 1..60)) {
        let mut now = Instant::now();
        let mut shard = shard(now);
        // Until when each session and each row by itself waits.
        let mut sessions: BTreeMap<String, Instant> = BTreeMap::new();
        let mut rows: BTreeMap<i64, Instant> = BTreeMap::new();
        let (mut at_end, mut looked_from) = (false, now);
        for step in steps {
            match step {
                Step::Fail { seq, wait } => {
                    let (row, until) = (row(seq), now + Duration::from_millis(wait));
                    // What waits is not read, so it can't fail.
                    if shard.is_blocked(row.event.session_id.as_deref()) || shard.waiting_rows().contains(&seq) {
                        continue;
                    }
                    shard.block(&row, until);
                    match row.event.session_id {
                        Some(session) => drop(sessions.insert(session, until)),
                        None => drop(rows.insert(seq, until)),
                    }
                }
                Step::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    shard.watermark.read(Some(9), None, Some(()));
                    shard.watermark.proven();
                    shard.watermark.read(None, None, None);
                    shard.refresh(now, SWEEP);
                    if shard.watermark.low() == 0 {
                        (at_end, looked_from) = (false, now);
                        // Rows are read again and say themselves whether they are due.
                        rows.clear();
                    }
                }
                Step::End => {
                    shard.caught_up(now);
                    at_end = true;
                }
            }
            for (session, until) in &sessions {
                let blocked = shard.is_blocked(Some(session));
                prop_assert!(blocked || *until <= now, "{session} runs before its time (rule 3)");
                let listed = shard.blocked_sessions().contains(session);
                prop_assert_eq!(blocked, listed);
                if blocked && *until <= now {
                    // Overdue: only for as long as reading hasn't come to the end, and not for ever.
                    let patience = if at_end { Duration::ZERO } else { SWEEP * PATIENT_SWEEPS };
                    let due = (*until).min(looked_from + SWEEP) + patience;
                    prop_assert!(now <= due || matches!(step, Step::Fail { .. } | Step::End), "{session} starves");
                }
            }
            for seq in shard.waiting_rows() {
                prop_assert!(rows.contains_key(&seq));
            }
            sessions.retain(|session, _| shard.is_blocked(Some(session)));
            let first = sessions.values().copied().min();
            if at_end && rows.is_empty() && shard.row_due.is_none() {
                prop_assert_eq!(shard.next_due(), first);
            } else if at_end {
                prop_assert!(first.is_none_or(|first| shard.next_due().is_some_and(|due| due <= first)));
            } else {
                prop_assert_eq!(shard.next_due(), None, "there is more to read first");
            }
        }
        // And in the end everything is read again.
        shard.caught_up(now);
        shard.refresh(now + Duration::from_secs(200), SWEEP);
        prop_assert!(shard.blocked_sessions().is_empty() && shard.waiting_rows().is_empty());
        prop_assert_eq!(shard.watermark.low(), 0);
    }

    /// Rule 11: after an unclean takeover each session's head runs by itself until it has passed.
    #[test]
    fn whoever_died_of_a_row_is_careful_with_it(passes in prop::collection::vec(0..8_i64, 0..8)) {
        let now = Instant::now();
        let mut shard = shard(now);
        prop_assert!((0..8).all(|seq| !shard.is_cautious(&row(seq))), "after a clean one nobody is");
        shard.cautious = Some(Passed::default());
        for seq in passes {
            shard.passed(&row(seq));
            prop_assert!(!shard.is_cautious(&row(seq)));
            shard.counts(&row(seq));
            prop_assert!(shard.is_counted(&row(seq)));
            shard.settled(&row(seq));
            prop_assert!(!shard.is_counted(&row(seq)));
        }
        shard.caught_up(now);
        prop_assert!((0..8).all(|seq| !shard.is_cautious(&row(seq))), "all that was there has passed");
    }
}
