//! What becomes of a handler's attempt, and who may write it (rules 4, 9 and 11).

use std::time::Duration;

use distributed_events::storage::{
    AdminStorage, Attempt, DeadRowFilter, Fence, InboxRow, LeaseStorage, Storage, Table, Verdict,
};
use uuid::Uuid;

use super::{Fixture, inbox_of, ingest, of_session, process, take};

const LEASE: &str = "inbox:billing:1";

async fn one_row<F: Fixture>(fixture: &F) -> (InboxRow, Fence) {
    ingest(fixture, &[of_session("s", "body")]).await;
    let fence = take(fixture, LEASE).await.fence;
    (inbox_of(fixture, "s").await.remove(0), fence)
}

async fn record<F: Fixture>(fixture: &F, attempt: Attempt<'_>) -> bool {
    F::DB::record_attempt(&mut *fixture.conn().await, &attempt).await.unwrap()
}

/// A failure counts, keeps its reason and waits; the row stays visible, since it blocks its session.
pub async fn a_retry_counts_and_waits<F: Fixture>() {
    let fixture = F::fresh().await;
    let (row, fence) = one_row(&fixture).await;
    assert_eq!((row.attempts, row.due_in), (0, Duration::ZERO));
    let retry = Attempt::new(row.seq, &fence, Verdict::Retry(Duration::from_secs(100)))
        .counting(1)
        .because("no card");
    assert!(record(&fixture, retry).await);
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!(rows[0].attempts, 1);
    assert!(
        rows[0].due_in > Duration::from_secs(90) && rows[0].due_in <= Duration::from_secs(100),
        "{:?}",
        rows[0].due_in
    );
    fixture.age(Table::Inbox, Duration::from_secs(101)).await;
    assert_eq!(inbox_of(&fixture, "s").await[0].due_in, Duration::ZERO);
    let silent = Attempt::new(row.seq, &fence, Verdict::Retry(Duration::ZERO)).counting(1);
    assert!(record(&fixture, silent).await);
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!((rows[0].attempts, rows[0].due_in), (2, Duration::ZERO));
    assert_eq!(
        fixture.number("SELECT count(*) FROM inbox WHERE last_error = 'no card'").await,
        1,
        "a silent one keeps it"
    );
}

/// What was counted before a handler ran is taken back when the failure was not its own.
pub async fn an_attempt_is_taken_back<F: Fixture>() {
    let fixture = F::fresh().await;
    let (row, fence) = one_row(&fixture).await;
    let retry = Attempt::new(row.seq, &fence, Verdict::Retry(Duration::ZERO));
    for (count, expected) in [(1, 1), (1, 2), (-1, 1), (0, 1), (-1, 0), (-1, 0)] {
        assert!(record(&fixture, retry.counting(count)).await);
        assert_eq!(inbox_of(&fixture, "s").await[0].attempts, expected);
    }
}

/// Out of attempts.
pub async fn a_row_ends_dead<F: Fixture>() {
    let fixture = F::fresh().await;
    let (row, fence) = one_row(&fixture).await;
    assert!(
        record(&fixture, Attempt::new(row.seq, &fence, Verdict::Dead).counting(1).because("no card")).await
    );
    assert!(inbox_of(&fixture, "s").await.is_empty());
    let dead =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!((dead[0].seq, dead[0].attempts, dead[0].reason.as_str()), (row.seq, 1, "no card"));
    assert_eq!(dead[0].data, b"body");
    for verdict in [Verdict::Dead, Verdict::Retry(Duration::ZERO), Verdict::DeadAfterEnd] {
        assert!(
            !record(&fixture, Attempt::new(row.seq, &fence, verdict).because("later")).await,
            "{verdict:?}"
        );
    }
    assert_eq!(process(&fixture, &[row.seq]).await, 0, "the dead are never processed");
}

/// Rule 9: the handler's own COMMIT may have kept the mark, and the row is dead all the same, whoever holds the lease.
pub async fn an_ended_transaction_makes_any_row_dead<F: Fixture>() {
    for processed in [false, true] {
        let fixture = F::fresh().await;
        let (row, _) = one_row(&fixture).await;
        if processed {
            assert_eq!(process(&fixture, &[row.seq]).await, 1);
        }
        let nobody = Fence::new("no such lease".to_owned(), Uuid::new_v4(), 9);
        let reason = "handler ended the transaction";
        assert!(
            record(&fixture, Attempt::new(row.seq, &nobody, Verdict::DeadAfterEnd).because(reason)).await
        );
        let dead = F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default())
            .await
            .unwrap();
        assert_eq!(dead[0].reason, reason, "processed before: {processed}");
        assert!(
            !record(&fixture, Attempt::new(row.seq, &nobody, Verdict::DeadAfterEnd).because("twice")).await
        );
    }
}

/// Rule 4: attempts and deaths carry owner and epoch.
pub async fn another_owner_or_epoch_is_refused<F: Fixture>() {
    let fixture = F::fresh().await;
    let (row, fence) = one_row(&fixture).await;
    let strangers = [
        Fence::new(fence.name.clone(), Uuid::new_v4(), fence.epoch),
        Fence::new(fence.name.clone(), fence.owner, fence.epoch - 1),
        Fence::new("inbox:billing:2".to_owned(), fence.owner, fence.epoch),
    ];
    for stranger in &strangers {
        for verdict in [Verdict::Dead, Verdict::Retry(Duration::from_secs(9))] {
            assert!(
                !record(&fixture, Attempt::new(row.seq, stranger, verdict).counting(1).because("x")).await
            );
        }
    }
    let after = inbox_of(&fixture, "s").await.remove(0);
    assert_eq!((after.attempts, after.due_in), (0, Duration::ZERO));
    assert!(!record(&fixture, Attempt::new(row.seq + 1, &fence, Verdict::Dead)).await, "no such row");
    assert!(record(&fixture, Attempt::new(row.seq, &fence, Verdict::Dead)).await);
}

/// A zombie wakes up after another has taken its lease, or after it gave it back.
pub async fn a_lost_lease_is_refused<F: Fixture>() {
    let fixture = F::fresh().await;
    let (row, zombie) = one_row(&fixture).await;
    fixture.set_lease_until(LEASE, -1).await;
    let next = take(&fixture, LEASE).await.fence;
    assert!(!record(&fixture, Attempt::new(row.seq, &zombie, Verdict::Dead)).await);
    assert!(record(&fixture, Attempt::new(row.seq, &next, Verdict::Retry(Duration::ZERO)).counting(1)).await);
    F::DB::release_leases(&mut *fixture.conn().await, std::slice::from_ref(&next)).await.unwrap();
    assert!(!record(&fixture, Attempt::new(row.seq, &next, Verdict::Dead)).await);
    assert_eq!(inbox_of(&fixture, "s").await[0].attempts, 1);
}
