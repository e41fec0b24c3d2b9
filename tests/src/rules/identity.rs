//! Identity and the dedupe horizon (rules 14 to 16).

use std::time::{Duration, SystemTime};

use distributed_events::storage::{Retention, Storage, Table};
use distributed_events::{DistributedEvent, EventId, PublishError, PublishOptions};

use super::{Rig, SUBSCRIPTION, Shared, beside, received, step};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Its key may be gone, so that nobody can tell whether it was run before.
pub async fn rule_15_an_event_past_the_horizon_is_not_run<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let mut old = received(&step("s", 1));
    old.created_at = Some(SystemTime::now() - 31 * DAY);
    let mut young = received(&step("s", 2));
    young.created_at = Some(SystemTime::now() - 29 * DAY);
    F::DB::ingest(&mut *rig.fixture.conn().await, SUBSCRIPTION, &[old, young]).await.unwrap();
    beside(&rig.bus(), async {
        rig.rows(1, "dead", 0, "older than the dedupe horizon").await;
        rig.has(Some("s"), &[2]).await;
    })
    .await;
    assert!(rig.attempts(1).is_empty());
}

/// A subscription was down for longer than the outbox keeps what it has sent, and than the inbox keeps bodies.
pub async fn rule_15_what_waited_longer_than_retention_is_run<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let mut event = received(&step("s", 1));
    event.created_at = Some(SystemTime::now() - 10 * DAY);
    F::DB::ingest(&mut *rig.fixture.conn().await, SUBSCRIPTION, &[event]).await.unwrap();
    rig.fixture.age(Table::Inbox, 10 * DAY).await;
    for retention in [
        Retention::Outbox { older_than: 7 * DAY, limit: 100 },
        Retention::InboxBodies { older_than: 7 * DAY, limit: 100 },
        Retention::InboxRows { older_than: 7 * DAY, limit: 100 },
    ] {
        assert_eq!(F::DB::purge(&mut *rig.fixture.conn().await, &retention).await.unwrap(), 0);
    }
    beside(&rig.bus(), rig.has(Some("s"), &[1])).await;
}

/// The commit of the first publish had an unknown outcome.
pub async fn rule_16_an_explicit_id_is_published_once<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let id = EventId::new();
    for again in [false, true] {
        let mut tx = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        let published = step("s", 1).publish_with(&mut tx, PublishOptions::new().id(id)).await;
        match published {
            Err(PublishError::Duplicate { id: known }) if again => assert_eq!(known, id.to_string()),
            Ok(_) if !again => {}
            other => panic!("{other:?}"),
        }
        // The transaction goes on, whatever the answer was.
        F::run(&mut *tx, "INSERT INTO effects (session_id, n, instance) VALUES ('own', 1, '')")
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    beside(&rig.bus(), rig.has(Some("s"), &[1])).await;
    assert_eq!(rig.effects(Some("own")).await, [1, 1]);
    assert_eq!(rig.attempts(1), [1]);
}
