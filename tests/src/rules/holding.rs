//! Rows, locks and connections that others hold (rules 3, 4, 10 and 28).

use std::time::Duration;

use distributed_events::RetryPolicy;
use distributed_events::storage::{InboxQuery, Storage, shard_of};

use super::{Rig, SUBSCRIPTION, Shared, beside, beside_session, running, settings, step};
use crate::eventually::eventually;

async fn seq_of<F: Shared>(rig: &Rig<F>, session: &str) -> i64 {
    let query = InboxQuery::new(SUBSCRIPTION, shard_of(session), 10);
    let rows = F::DB::read_inbox(&mut *rig.fixture.conn().await, &query).await.unwrap();
    rows.iter().find(|row| row.event.session_id.as_deref() == Some(session)).unwrap().seq
}

/// A zombie is in the middle of S:1 while the new owner goes on: S waits, all others flow, and no attempt is counted.
pub async fn rule_03_a_held_row_blocks_its_session_alone<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let [t, u] = [0, 1].map(|n| beside_session("s").nth(n).unwrap());
    rig.receive(&[step("s", 1), step("s", 2), step(&t, 1)]).await;
    let seq = seq_of(&rig, "s").await;
    let own = F::DB::open(
        rig.fixture.pool(),
        &distributed_events::storage::PoolSettings::new(1, Duration::from_secs(5)),
    )
    .await
    .unwrap();
    let mut conn = own.acquire().await.unwrap();
    let mut zombie = F::DB::begin_guarded(&mut *conn, Duration::from_secs(60)).await.unwrap();
    assert_eq!(F::DB::mark_processed(&mut *zombie, &[seq]).await.unwrap(), 1);
    beside(&rig.bus(), async {
        if !F::DB::SINGLE_WRITER {
            rig.has(Some(&t), &[1]).await;
            rig.receive(&[step(&t, 2), step(&u, 1)]).await;
            rig.has(Some(&u), &[1]).await;
            rig.has(Some(&t), &[1, 2]).await;
            assert!(rig.effects(Some("s")).await.is_empty(), "nothing of S overtakes");
        }
        zombie.rollback().await.unwrap();
        rig.has(Some("s"), &[1, 2]).await;
        rig.has(Some(&t), if F::DB::SINGLE_WRITER { &[1] } else { &[1, 2] }).await;
    })
    .await;
    rig.rows(if F::DB::SINGLE_WRITER { 3 } else { 5 }, "processed", 0, "").await;
}

/// The zombie commits after all: its event is not run again, and the next one of its session is.
pub async fn rule_04_a_zombie_that_commits_is_believed<F: Shared>() {
    let rig = Rig::<F>::new().await;
    rig.receive(&[step("s", 1), step("s", 2), step("t", 1)]).await;
    let seq = seq_of(&rig, "s").await;
    let own = F::DB::open(
        rig.fixture.pool(),
        &distributed_events::storage::PoolSettings::new(1, Duration::from_secs(5)),
    )
    .await
    .unwrap();
    let mut conn = own.acquire().await.unwrap();
    let mut zombie = F::DB::begin_guarded(&mut *conn, Duration::from_secs(60)).await.unwrap();
    F::DB::mark_processed(&mut *zombie, &[seq]).await.unwrap();
    F::run(&mut *zombie, "INSERT INTO effects (session_id, n, instance) VALUES ('s', 1, 'zombie')")
        .await
        .unwrap();
    beside(&rig.bus(), async {
        if !F::DB::SINGLE_WRITER {
            rig.has(Some("t"), &[1]).await;
        }
        F::DB::close_guard(&mut *zombie, &[seq]).await.unwrap();
        zombie.commit().await.unwrap();
        rig.has(Some("s"), &[1, 2]).await;
        rig.has(Some("t"), &[1]).await;
    })
    .await;
    assert!(rig.attempts(1).len() <= 2, "S:1 is not run again: {:?}", rig.attempts(1));
    assert_eq!(rig.effects(None).await.len(), 3);
}

/// The statement goes on at the server when its handler has been cut off, unless something ends it; its locks are free then.
pub async fn rule_10_an_endless_statement_is_ended<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let lock = "INSERT INTO effects (session_id, n, instance) VALUES ('locked', 0, '')";
    let endless = running(1, &[(lock, false), (F::ENDLESS, false)]);
    let quick = settings().timeout(Duration::from_millis(200)).retry(RetryPolicy::default().attempts(2));
    let bus = rig.builder_on(rig.fixture.pool().clone(), quick).build().unwrap();
    rig.receive(&[endless]).await;
    beside(&bus, async {
        rig.rows(1, "dead", 2, "did not return within 200ms").await;
        rig.receive(&[step("t", 1)]).await;
        rig.has(Some("t"), &[1]).await;
        // Nobody is at work on it any more, and everybody can write.
        rig.fixture.execute("UPDATE effects SET n = 2 WHERE n = 1").await;
        if let Some(sql) = F::AT_WORK {
            eventually("it is ended", || rig.fixture.number(sql), |count| *count == 0).await;
        }
    })
    .await;
    assert_eq!(rig.attempts(1), [1, 2, 1], "twice, and once the other event of this number");
    assert!(rig.effects(Some("locked")).await.is_empty());
}

/// The application keeps its only connection to itself.
pub async fn rule_28_a_users_pool_of_one_is_enough<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let pool = rig.fixture.another_pool().await;
    let kept = pool.acquire().await.unwrap();
    let bus = rig.builder_on(pool.clone(), settings()).build().unwrap();
    beside(&bus, async {
        rig.publish(&[step("s", 1), step("s", 2)]).await;
        rig.has(Some("s"), &[1, 2]).await;
    })
    .await;
    drop(kept);
}
