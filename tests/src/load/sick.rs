//! Handlers that do their worst, all at once.

use std::time::Duration;

use distributed_events::storage::Storage;
use distributed_events::{DistributedEvent, HandlerSettings, RetryPolicy};
use serde::{Deserialize, Serialize};
use sqlx::Database;

use super::Shared;
use crate::rules::{Rig, SUBSCRIPTION, beside, plain_builder};

/// How a handler misbehaves, whenever it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Illness {
    Fails,
    Hangs,
    Panics,
    /// Takes a lock that everybody needs, in a savepoint that it forgets, and never comes back.
    KeepsLocks,
}

const ILLNESSES: [(Illness, &str, &str); 4] = [
    (Illness::Fails, "fails", "it always fails"),
    (Illness::Hangs, "hangs", "did not return within 200ms"),
    (Illness::Panics, "panics", "the handler panicked: as always"),
    (Illness::KeepsLocks, "keeps", "did not return within 200ms"),
];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Patient {
    session: String,
    n: i64,
    illness: Option<Illness>,
}

impl DistributedEvent for Patient {
    const NAME: &'static str = "load.patient";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some(self.session.clone())
    }
}

/// Each ends dead after its attempts, with its reason and without effects; what comes behind it in its session is handled
/// then; all other sessions are handled as if nothing had been; and nobody's lock is left.
pub async fn handlers_that_fail_hang_panic_or_keep_locks_harm_nobody_else<F: Shared>() {
    let rig = Rig::<F>::new().await;
    rig.fixture.execute("INSERT INTO effects (session_id, n, instance) VALUES ('everybodys', 0, '')").await;
    let attempts = RetryPolicy::default().attempts(3).initial(Duration::from_millis(10)).jitter(0.0);
    let settings = HandlerSettings::new(SUBSCRIPTION).timeout(Duration::from_millis(200)).retry(attempts);
    let bus = plain_builder(rig.fixture.pool().clone())
        .on(settings, |event: Patient, tx, _context| {
            Box::pin(async move {
                let conn: &mut <F::DB as Database>::Connection = tx;
                let effect = format!(
                    "INSERT INTO effects (session_id, n, instance) VALUES ('{}', {}, '')",
                    event.session, event.n
                );
                F::run(conn, &effect).await?;
                match event.illness {
                    None => Ok(()),
                    Some(Illness::Fails) => Err("it always fails".into()),
                    Some(Illness::Hangs) => std::future::pending().await,
                    Some(Illness::Panics) => panic!("as always"),
                    Some(Illness::KeepsLocks) => {
                        F::run(conn, "SAVEPOINT forgotten").await?;
                        F::run(conn, "UPDATE effects SET n = -1 WHERE session_id = 'everybodys'").await?;
                        std::future::pending().await
                    }
                }
            })
        })
        .build()
        .unwrap();
    let mut events = Vec::new();
    for n in 0..5 {
        for (illness, session, _) in ILLNESSES {
            events.push(Patient { session: session.to_owned(), n, illness: (n == 1).then_some(illness) });
        }
        events.extend((0..20).map(|other| Patient { session: format!("well{other}"), n, illness: None }));
    }
    let mut tx = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
    Patient::publish_all(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    beside(&bus, async {
        for (_, session, _) in ILLNESSES {
            rig.has(Some(session), &[0, 2, 3, 4]).await;
        }
        for other in 0..20 {
            rig.has(Some(&format!("well{other}")), &[0, 1, 2, 3, 4]).await;
        }
        // While the bus runs on, because its end would free everything.
        rig.fixture.execute("UPDATE effects SET n = n + 1 WHERE session_id = 'everybodys'").await;
    })
    .await;
    assert_eq!(rig.effects(Some("everybodys")).await, [1], "what a dead one did to it is undone");
    for (_, session, reason) in ILLNESSES {
        let dead = format!(
            "SELECT count(*) FROM inbox WHERE status = 'dead' AND attempts = 3 AND session_id = '{session}' \
             AND last_error LIKE '%{reason}%'"
        );
        assert_eq!(rig.fixture.number(&dead).await, 1, "{session}");
    }
    let stats = bus.stats();
    assert_eq!((stats.processed, stats.dead), (116, 4));
    // A slow machine may be late with one of the others.
    assert!(stats.retried >= 8, "{stats:?}");
}
