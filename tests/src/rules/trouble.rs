//! The database's own trouble in the middle of a handler (rules 9 and 11).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use distributed_events::storage::Storage;
use distributed_events::{EventBus, HandlerError};
use sqlx::Transaction;
use tokio::sync::Notify;

use super::{Rig, Shared, Step, beside, plain_builder, settings, step};

/// What the two parties of a deadlock tell each other.
#[derive(Clone, Default)]
struct Stage {
    runs: Arc<AtomicU32>,
    first_locked: Arc<Notify>,
    other_waits: Arc<Notify>,
}

/// A handler that runs into a deadlock at its first run, and swallows it or not.
fn deadlocked<F: Shared>(rig: &Rig<F>, stage: &Stage, swallows: bool) -> EventBus<F::DB> {
    let stage = stage.clone();
    plain_builder(rig.fixture.pool().clone())
        .on(settings(), move |_: Step, tx, _context| {
            let stage = stage.clone();
            Box::pin(async move {
                F::run(&mut **tx, "UPDATE accounts SET n = n + 1 WHERE id = 1").await?;
                if stage.runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    stage.first_locked.notify_one();
                    stage.other_waits.notified().await;
                }
                match F::run(&mut **tx, "UPDATE accounts SET n = n + 1 WHERE id = 2").await {
                    Err(error) if !swallows => return Err(error.into()),
                    _ => {}
                }
                effect::<F>(tx).await.or_else(|error| if swallows { Ok(()) } else { Err(error) })
            })
        })
        .build()
        .unwrap()
}

async fn effect<F: Shared>(tx: &mut Transaction<'_, F::DB>) -> Result<(), HandlerError> {
    Ok(F::run(&mut **tx, "INSERT INTO effects (session_id, n, instance) VALUES ('s', 1, '')").await?)
}

/// The other party, which the database lets win.
async fn other<F: Shared>(rig: &Rig<F>, stage: &Stage) {
    let mut tx = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
    for sql in F::WINS_DEADLOCKS {
        F::run(&mut *tx, sql).await.unwrap();
    }
    F::run(&mut *tx, "UPDATE accounts SET n = n + 10 WHERE id = 2").await.unwrap();
    stage.first_locked.notified().await;
    let waits = async {
        // It waits for the handler's lock by the time the handler asks for its own: sent before, and answered after.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stage.other_waits.notify_one();
    };
    let (updated, ()) = tokio::join!(F::run(&mut *tx, "UPDATE accounts SET n = n + 10 WHERE id = 1"), waits);
    updated.unwrap();
    tx.commit().await.unwrap();
}

async fn accounts<F: Shared>() -> Rig<F> {
    let rig = Rig::<F>::new().await;
    rig.fixture.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, n BIGINT NOT NULL)").await;
    for id in 1..200 {
        rig.fixture.execute(&format!("INSERT INTO accounts (id, n) VALUES ({id}, 0)")).await;
    }
    rig.receive(&[step("s", 1)]).await;
    rig
}

/// The whole transaction is gone, with the mark; what the handler did after it must neither be half of it nor be lost.
pub async fn rule_09_a_swallowed_deadlock_is_a_failed_attempt<F: Shared>() {
    if F::DB::SINGLE_WRITER {
        // One writer at a time: nobody to wait for in a circle.
        return;
    }
    let (rig, stage) = (accounts::<F>().await, Stage::default());
    beside(&deadlocked(&rig, &stage, true), async {
        other(&rig, &stage).await;
        rig.rows(1, "processed", 1, "").await;
    })
    .await;
    assert_eq!(stage.runs.load(Ordering::SeqCst), 2);
    assert_eq!(rig.effects(None).await, [1]);
    assert_eq!(rig.fixture.number("SELECT n FROM accounts WHERE id = 1").await, 11);
    assert_eq!(rig.fixture.number("SELECT n FROM accounts WHERE id = 2").await, 11);
}

/// The same, with the error returned: it is the database's trouble and not the handler's.
pub async fn rule_11_a_deadlock_is_no_attempt<F: Shared>() {
    if F::DB::SINGLE_WRITER {
        return;
    }
    let (rig, stage) = (accounts::<F>().await, Stage::default());
    beside(&deadlocked(&rig, &stage, false), async {
        other(&rig, &stage).await;
        rig.rows(1, "processed", 0, "").await;
    })
    .await;
    assert_eq!(rig.effects(None).await, [1]);
    assert_eq!(rig.fixture.number("SELECT n FROM accounts WHERE id = 1").await, 11);
}

/// The server ends the handler's connection, more often than it has attempts.
pub async fn rule_11_a_lost_connection_is_no_attempt<F: Shared>() {
    let Some(suicide) = F::SUICIDE else {
        // There is no server that could.
        return;
    };
    let rig = Rig::<F>::new().await;
    rig.receive(&[step("s", 1), step("t", 1)]).await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let bus = plain_builder(rig.fixture.pool().clone())
        .on(settings(), move |event: Step, tx, _context| {
            let first = event.session.as_deref() == Some("s") && counted.fetch_add(1, Ordering::SeqCst) < 5;
            Box::pin(async move {
                effect::<F>(tx).await?;
                if first {
                    F::run(&mut **tx, suicide).await?;
                }
                Ok(())
            })
        })
        .build()
        .unwrap();
    beside(&bus, rig.rows(2, "processed", 0, "")).await;
    assert_eq!(runs.load(Ordering::SeqCst), 6);
    assert_eq!(rig.effects(None).await, [1, 1]);
}
