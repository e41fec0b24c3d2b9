//! What a handler may do to its transaction (rules 8, 9 and 12).

use distributed_events::storage::Storage;
use sqlx::Database;

use super::{Rig, Shared, Step, beside, running, settings, step};

fn is<F: Shared>(name: &str) -> bool {
    <F::DB as Database>::NAME == name
}

/// On PostgreSQL the error has broken the transaction, and its COMMIT would answer ROLLBACK, which looks like success; on
/// the others the rest of the transaction is whole.
pub async fn rule_09_a_swallowed_error_is_never_half_a_commit<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let swallowing = running(1, &[("INSERT INTO no_such_table VALUES (1)", true)]);
    rig.receive(&[swallowing, step("t", 2)]).await;
    beside(&rig.bus(), async {
        rig.has(Some("t"), &[2]).await;
        if is::<F>("PostgreSQL") {
            rig.rows(1, "dead", 3, "a statement of its transaction had failed").await;
            assert_eq!(rig.effects(None).await, [2]);
        } else {
            rig.rows(2, "processed", 0, "").await;
            assert_eq!(rig.effects(None).await.len(), 2);
        }
    })
    .await;
}

/// What followed the COMMIT may be durable, so it must not happen again.
pub async fn rule_09_a_raw_commit_is_dead_and_never_run_again<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let before = "INSERT INTO effects (session_id, n, instance) VALUES ('before', 1, '')";
    rig.receive(&[running(1, &[(before, false), ("COMMIT", false)]), step("t", 2)]).await;
    beside(&rig.bus(), async {
        rig.rows(1, "dead", 1, "handler ended the transaction").await;
        rig.has(Some("t"), &[2]).await;
    })
    .await;
    assert_eq!(rig.attempts(1), [1]);
    assert_eq!(rig.effects(Some("before")).await, [1]);
}

/// Where what followed is durable the row is dead; where it could be taken back it is a failed attempt.
pub async fn rule_09_a_raw_rollback_leaves_nothing_unseen<F: Shared>() {
    let rig = Rig::<F>::new().await;
    rig.receive(&[running(1, &[("ROLLBACK", false)]), step("t", 2)]).await;
    beside(&rig.bus(), async {
        rig.has(Some("t"), &[2]).await;
        if is::<F>("MySQL") {
            rig.rows(1, "dead", 3, "").await;
        } else {
            rig.rows(1, "dead", 1, "handler ended the transaction").await;
        }
    })
    .await;
    let own = rig.effects(None).await.iter().filter(|n| **n == 1).count();
    assert!(own <= rig.attempts(1).len() && (own == 0 || rig.attempts(1).len() == 1), "{own}");
}

/// Part of the transaction on PostgreSQL and SQLite; on MariaDB and MySQL it commits what was before it.
pub async fn rule_09_ddl_is_committed_with_the_mark_or_found_out<F: Shared>() {
    let rig = Rig::<F>::new().await;
    rig.receive(&[running(1, &[("CREATE TABLE made_by_a_handler (n INTEGER)", false)]), step("t", 2)]).await;
    beside(&rig.bus(), async {
        rig.has(Some("t"), &[2]).await;
        if is::<F>("MySQL") {
            rig.rows(1, "dead", 1, "handler ended the transaction").await;
        } else {
            rig.rows(2, "processed", 0, "").await;
        }
    })
    .await;
    assert_eq!(rig.attempts(1), [1]);
    assert_eq!(rig.fixture.number("SELECT count(*) FROM made_by_a_handler").await, 0);
}

/// The first run of the batch counts no attempt, and what it did is taken back.
pub async fn rule_12_a_failed_batch_runs_one_by_one<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let session = |n| Step { n, ..step("s", n) };
    let mut steps: Vec<_> = (0..20).map(session).collect();
    steps[13].sql = vec![("INSERT INTO no_such_table VALUES (1)".to_owned(), false)];
    rig.receive(&steps).await;
    let bus = rig.builder_on(rig.fixture.pool().clone(), settings().batch(10)).build().unwrap();
    beside(&bus, async {
        rig.rows(1, "dead", 3, "no_such_table").await;
        rig.rows(19, "processed", 0, "").await;
    })
    .await;
    assert_eq!(rig.effects(Some("s")).await, (0..20).filter(|n| *n != 13).collect::<Vec<_>>());
    assert!(F::DB::DEFAULT_HANDLER_TIMEOUT > std::time::Duration::ZERO);
}
