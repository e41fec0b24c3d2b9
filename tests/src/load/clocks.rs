//! The database's clock leaps.
//!
//! Its clock can't be moved for one test, but all that the library compares with it are times in rows, so these leap the
//! other way instead: an hour that the clock goes back is an hour that is added to them.

use std::time::Duration;

use distributed_events::storage::{Storage, Table};
use distributed_events::{DistributedEvent, InboxSettings, OutboxSettings, PublishOptions};

use super::Shared;
use crate::eventually::eventually;
use crate::rules::{Rig, SUBSCRIPTION, beside, settings, step};

/// Short, since a lease that was lost is waited for.
const LEASE: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The clock leaps an hour to and fro, again and again, under two buses at work: every lease has run out, or claims to last
/// too long, and both take it from each other; what they handle stays in order and is handled once.
pub async fn leases_that_leap_with_the_clock_double_nothing<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let bus = || {
        let quick = InboxSettings::default().lease_time(LEASE).handler_timeout(Duration::from_millis(200));
        let outbox = OutboxSettings::default().lease_time(LEASE);
        rig.builder_on(rig.fixture.pool().clone(), settings()).inbox(quick).outbox(outbox).build().unwrap()
    };
    let (first, second) = (bus(), bus());
    let sessions: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    let lease = "SELECT count(*) FROM distributed_events_leases WHERE owner IS NOT NULL";
    beside(
        &first,
        beside(&second, async {
            for n in 0..6 {
                let steps: Vec<_> = sessions.iter().map(|session| step(session, n)).collect();
                rig.publish(&steps).await;
                eventually("leases are held", || rig.fixture.number(lease), |held| *held > 0).await;
                leap(&rig, if n % 2 == 0 { 3_600_000 } else { -3_600_000 }).await;
                // Each lease is good again before the next leap.
                for session in &sessions {
                    rig.has(Some(session), &(0..=n).collect::<Vec<_>>()).await;
                }
            }
        }),
    )
    .await;
    // Attempts are not looked at: the first of a session is counted before it runs where a lease was not given back.
    assert_eq!(rig.fixture.number("SELECT count(*) FROM inbox WHERE status = 'processed'").await, 120);
    assert_eq!(rig.effects(None).await.len(), 120);
}

async fn leap<F: Shared>(rig: &Rig<F>, by: i64) {
    let shards = (0..64).map(|shard| format!("inbox:{SUBSCRIPTION}:{shard:02}"));
    for name in shards.chain(["outbox:default".to_owned()]) {
        rig.fixture.set_lease_until(&name, by).await;
    }
}

/// The clock goes an hour on: what was to come in half an hour is due, and comes once.
pub async fn what_waits_is_due_when_the_clock_leaps_forward<F: Shared>() {
    let rig = Rig::<F>::new().await;
    beside(&rig.bus(), async {
        let mut tx = rig.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        step("delayed", 1).publish_with(&mut tx, PublishOptions::new().delay(HOUR / 2)).await.unwrap();
        step("now", 1).publish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        rig.has(Some("now"), &[1]).await;
        assert!(rig.effects(Some("delayed")).await.is_empty());
        rig.fixture.age(Table::Outbox, HOUR).await;
        rig.has(Some("delayed"), &[1]).await;
    })
    .await;
    rig.rows(2, "processed", 0, "").await;
}
