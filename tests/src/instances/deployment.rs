//! Old and new instances side by side (rules 21 and 22).

use super::program::{Added, Changed, ChangedAgain};
use super::{Place, Shared, of};
use crate::eventually::eventually;

fn changed(n: i64) -> Changed {
    Changed { session: "s0".to_owned(), n }
}

fn changed_again(place: i64) -> ChangedAgain {
    ChangedAgain { session: "s0".to_owned(), place }
}

fn added(n: i64) -> Added {
    Added { session: "s1".to_owned(), n }
}

/// What old instances can't handle waits for the new ones, wherever it lies; nothing ends dead for it.
pub async fn a_new_handler_and_a_new_version_are_deployed_without_loss<F: Shared>() {
    let place = Place::<F>::new().await;
    let old = [place.start("old1", &[]), place.start("old2", &[])];
    place.publish(&[changed(0)]).await;
    place.effects(1).await;
    let new = place.start("new1", &["new"]);
    let live = "SELECT count(*) FROM distributed_events_instances";
    eventually("three live", || place.number(live), |live| *live == 3).await;
    let known = "SELECT count(*) FROM distributed_events_subscriptions WHERE events LIKE '%instances.added%'";
    eventually("the new event is known", || place.number(known), |known| *known > 0).await;
    // In one session both versions, while most shards are still with the old ones.
    place.publish(&[changed(1)]).await;
    place.publish(&[changed_again(2)]).await;
    place.publish(&[changed(3)]).await;
    place.publish(&[added(0), added(1)]).await;
    place.publish(&(0..30).map(|n| of(&format!("s{}", 2 + n % 10), n / 10)).collect::<Vec<_>>()).await;
    place.effects(1 + 3 + 2 + 30).await;
    let newer = place.start("new2", &["new"]);
    for instance in old {
        instance.stop().await;
    }
    place.publish(&[changed_again(4)]).await;
    place.publish(&[added(2), added(3), added(4)]).await;
    place.effects(37 + 3).await;
    assert_eq!(place.number("SELECT count(*) FROM inbox WHERE status <> 'processed'").await, 0);
    let mut conn = place.fixture.conn().await;
    for session in ["s0", "s1"] {
        let sql = format!("SELECT n FROM effects WHERE session_id = '{session}' ORDER BY seq");
        assert_eq!(F::numbers(&mut conn, &sql).await, [0, 1, 2, 3, 4], "{session}");
    }
    new.stop().await;
    newer.stop().await;
}

/// A newer library has added a column and a table; the older one goes on, and starts anew.
pub async fn an_old_instance_works_on_newer_tables<F: Shared>() {
    let place = Place::<F>::new().await;
    let running = place.start("running", &[]);
    place.publish(&[of("s0", 0)]).await;
    place.effects(1).await;
    for sql in [
        "ALTER TABLE outbox ADD COLUMN from_the_future VARCHAR(20)",
        "ALTER TABLE inbox ADD COLUMN from_the_future VARCHAR(20)",
        "CREATE TABLE distributed_events_future (n INTEGER)",
        F::NEWER,
    ] {
        place.fixture.execute(sql).await;
    }
    place.publish(&[of("s0", 1)]).await;
    place.effects(2).await;
    let started = place.start("started", &["migrate"]);
    running.stop().await;
    place.publish(&[of("s0", 2)]).await;
    place.assert_in_order(1, 3).await;
    started.stop().await;
}
