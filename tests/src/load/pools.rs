//! Connections that are used up.

use std::time::Duration;

use distributed_events::{DistributedEvent, HandlerSettings, RetryPolicy};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::rules::{Rig, SUBSCRIPTION, beside, step};

/// An event whose handler also wants a connection of the application's pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Greedy {
    n: i64,
}

impl DistributedEvent for Greedy {
    const NAME: &'static str = "load.greedy";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some("greedy".to_owned())
    }
}

/// The application has used up its pool. Handlers that want a connection of it fail and are tried again, those that don't
/// are handled meanwhile, and when there is a connection again everything is done, once and in order.
pub async fn a_used_up_pool_delays_who_needs_it_and_nobody_else<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let pool = rig.fixture.another_pool().await;
    let kept = pool.acquire().await.unwrap();
    let patient = RetryPolicy::default().attempts(1000).initial(Duration::from_millis(10));
    let short = HandlerSettings::new(SUBSCRIPTION).timeout(Duration::from_millis(200)).retry(patient);
    let wanted = pool.clone();
    let bus = rig
        .builder_on(pool.clone(), short)
        .on(short, move |event: Greedy, tx, _context| {
            let wanted = wanted.clone();
            Box::pin(async move {
                F::run(&mut *wanted.acquire().await?, "SELECT 1").await?;
                let sql = format!(
                    "INSERT INTO effects (session_id, n, instance) VALUES ('greedy', {}, '')",
                    event.n
                );
                Ok(F::run(&mut **tx, &sql).await?)
            })
        })
        .build()
        .unwrap();
    beside(&bus, async {
        let mut tx = begin(&rig).await;
        Greedy::publish_all(&mut tx, &[Greedy { n: 1 }, Greedy { n: 2 }]).await.unwrap();
        step("modest", 1).publish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        rig.has(Some("modest"), &[1]).await;
        // At least one attempt has failed by now or will, since nobody gives the connection back before.
        let failed = "SELECT count(*) FROM inbox WHERE attempts > 0 AND status = 'pending'";
        crate::eventually::eventually("it has failed", || rig.fixture.number(failed), |count| *count == 1)
            .await;
        assert!(rig.effects(Some("greedy")).await.is_empty());
        drop(kept);
        rig.has(Some("greedy"), &[1, 2]).await;
    })
    .await;
    assert_eq!(rig.fixture.number("SELECT count(*) FROM inbox WHERE status = 'processed'").await, 3);
}

async fn begin<F: Shared>(rig: &Rig<F>) -> sqlx::Transaction<'static, F::DB> {
    use distributed_events::storage::Storage;
    rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap()
}
