//! Many who publish at once.

use std::time::Duration;

use distributed_events::DistributedEvent;
use distributed_events::storage::Storage;
use futures_util::future::join_all;

use super::Shared;
use crate::eventually::within;
use crate::rules::{Rig, beside, step};

/// How many publish side by side.
const PUBLISHERS: usize = 200;
/// And over how many connections, each with its own queue in front: what a server has place for beside other tests.
const CONNECTIONS: usize = 40;

/// Each publishes one session's events in a transaction of its own, next to a business row, and rolls every third back,
/// while a bus delivers: of the committed ones nothing is lost, doubled or out of order, of the others nothing is seen.
pub async fn two_hundred_publishers_at_once_lose_and_double_nothing<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let each = if crate::is_long() { 100 } else { 3 };
    let pools = join_all((0..CONNECTIONS).map(|_| rig.fixture.another_pool())).await;
    let publish = |publisher: usize| {
        let pool = &pools[publisher % CONNECTIONS];
        async move {
            for n in 0..each {
                let mut tx = pool.begin_with(F::DB::BEGIN).await.unwrap();
                let row = format!(
                    "INSERT INTO effects (session_id, n, instance) VALUES ('placed', {n}, 'business')"
                );
                F::run(&mut *tx, &row).await.unwrap();
                step(&format!("p{publisher}"), n).publish(&mut tx).await.unwrap();
                if n % 3 == 2 { tx.rollback().await.unwrap() } else { tx.commit().await.unwrap() }
            }
        }
    };
    let committed: Vec<_> = (0..each).filter(|n| n % 3 != 2).collect();
    let all = PUBLISHERS as i64 * committed.len() as i64;
    beside(&rig.bus(), async {
        join_all((0..PUBLISHERS).map(publish)).await;
        let handled = "SELECT count(*) FROM inbox WHERE status = 'processed'";
        let what = "all are handled";
        within(Duration::from_secs(240), what, || rig.fixture.number(handled), |count| *count >= all).await;
    })
    .await;
    assert_eq!(rig.fixture.number("SELECT count(*) FROM inbox").await, all);
    assert_eq!(rig.fixture.number("SELECT count(*) FROM outbox WHERE status = 'sent'").await, all);
    assert_eq!(rig.effects(Some("placed")).await.len() as i64, all, "as many business rows as events");
    for publisher in 0..PUBLISHERS {
        assert_eq!(rig.effects(Some(&format!("p{publisher}"))).await, committed, "publisher {publisher}");
    }
}
