//! Order, and that nothing waits for what does not concern it (rules 1 to 6).

use std::time::{Duration, Instant};

use distributed_events::DistributedEvent;
use distributed_events::storage::Storage;

use super::{Rig, Shared, Step, beside, beside_session, step};
use crate::eventually::eventually;

/// T1 takes the first number and stays open, the second commits and is sent, T1 commits, and then its session publishes
/// again: a reader whose position had passed the gap would send that before T1's.
pub async fn rule_02_a_late_commit_is_sent_before_what_its_session_published_after_it<F: Shared>() {
    let rig = Rig::<F>::new().await;
    beside(&rig.bus(), async {
        let mut late = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        step("s", 1).publish(&mut late).await.unwrap();
        if !F::DB::SINGLE_WRITER {
            for n in 2..20 {
                rig.publish(&[step("t", n)]).await;
                rig.has(Some("t"), &(2..=n).collect::<Vec<_>>()).await;
            }
        }
        late.commit().await.unwrap();
        for n in 3..20 {
            rig.publish(&[step("s", n)]).await;
        }
        let expected: Vec<_> = std::iter::once(1).chain(3..20).collect();
        rig.has(Some("s"), &expected).await;
    })
    .await;
}

/// The same where the relay has seen the gap for long enough to ask only whether T1 has ended. The look that finds that it
/// has is also the first that can see T1's event, and that of its session after it.
pub async fn rule_02_a_late_commit_is_seen_before_its_gap_is_passed<F: Shared>() {
    let rig = Rig::<F>::new().await;
    beside(&rig.bus(), async {
        for (session, first) in [("a", 0), ("b", 100), ("c", 200)] {
            let mut late = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
            step(session, first).publish(&mut late).await.unwrap();
            // PostgreSQL's adapter tells such transactions by their ids once a second has passed.
            let begun = Instant::now();
            while !F::DB::SINGLE_WRITER && begun.elapsed() < Duration::from_millis(1_500) {
                let before = rig.effects(Some("t")).await;
                rig.publish(&[step("t", 1)]).await;
                rig.has(Some("t"), &vec![1; before.len() + 1]).await;
            }
            late.commit().await.unwrap();
            rig.publish(&[step(session, first + 1)]).await;
            rig.has(Some(session), &[first, first + 1]).await;
        }
    })
    .await;
}

/// More rows than any page has, all of one session whose first one waits.
pub async fn rule_05_a_blocked_session_hides_nobody<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let mut steps = vec![Step { later: 3_600, ..step("blocked", 0) }];
    steps.extend((1..1_500).map(|n| step("blocked", n)));
    // In the same shard, behind them.
    steps.push(step("blocked", 1_500));
    let same = beside_session("blocked").next().unwrap();
    steps.extend((0..3).map(|n| step(&same, n)));
    rig.receive(&steps).await;
    beside(&rig.bus(), async {
        rig.has(Some(&same), &[0, 1, 2]).await;
        assert!(rig.effects(Some("blocked")).await.is_empty());
    })
    .await;
    assert_eq!(rig.attempts(0).iter().filter(|attempt| **attempt == 1).count(), 2, "0 of each session, once");
}

/// Something else has written to the tables, on either way of an event.
pub async fn rule_05_a_row_that_cannot_be_read_hides_nobody<F: Shared>() {
    let rig = Rig::<F>::new().await;
    rig.receive(&[step("s", 1), step("t", 1), step("s", 2)]).await;
    rig.publish(&[step("u", 1), step("v", 1), step("u", 2)]).await;
    for (table, session) in [("inbox", "s"), ("outbox", "u")] {
        let mut conn = rig.fixture.conn().await;
        let first = format!("SELECT min(seq) FROM {table} WHERE session_id = '{session}'");
        let seq = F::numbers(&mut conn, &first).await[0];
        rig.fixture.execute(&format!("UPDATE {table} SET headers = '{{' WHERE seq = {seq}")).await;
    }
    beside(&rig.bus(), async {
        for (session, steps) in [("t", 1), ("s", 2), ("v", 1), ("u", 2)] {
            rig.has(Some(session), &[steps]).await;
        }
        rig.rows(1, "dead", 0, "be read: EOF").await;
        let sql = "SELECT count(*) FROM outbox WHERE status = 'dead' AND last_error LIKE '%EOF%'";
        eventually("it is dead", || rig.fixture.number(sql), |count| *count == 1).await;
    })
    .await;
}

/// More rows than any page has that wait without a session.
pub async fn rule_05_waiting_rows_hide_nobody<F: Shared>() {
    let rig = Rig::<F>::new().await;
    // Wherever they fall, each shard gets far more than the one that does not wait.
    let waiting = (0..3_000).map(|n| Step { later: 3_600, n, ..Step::default() });
    let free = (10_000..10_064).map(|n| Step { n, ..Step::default() });
    rig.receive(&waiting.chain(free).collect::<Vec<_>>()).await;
    beside(&rig.bus(), async {
        let count = || rig.fixture.number("SELECT count(*) FROM effects");
        crate::eventually::within(std::time::Duration::from_secs(90), "the free", count, |count| {
            *count == 64
        })
        .await;
    })
    .await;
}

/// Published one by one, relayed in batches that are under way together.
pub async fn rule_06_a_session_is_sent_in_order<F: Shared>() {
    let rig = Rig::<F>::new().await;
    beside(&rig.bus(), async {
        for n in 0..30 {
            let steps: Vec<_> = ["a", "b", "c"].map(|session| step(session, n)).into();
            rig.publish(&steps).await;
        }
        for session in ["a", "b", "c"] {
            rig.has(Some(session), &(0..30).collect::<Vec<_>>()).await;
        }
    })
    .await;
}
