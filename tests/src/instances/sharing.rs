//! Joining, leaving, starting together, losing connections.

use super::{Instance, Place, Shared, of};
use crate::eventually::eventually;

/// So many events without a session each: they spread over all shards.
const ROUND: i64 = 192;

/// Publishes a round, waits for it, and tells how much of it each instance has done.
async fn round<F: Shared>(place: &Place<F>, names: &[&str]) -> Vec<i64> {
    let mut before = Vec::new();
    for name in names {
        before.push(place.share(name).await);
    }
    let done = place.number("SELECT count(*) FROM effects").await;
    let events: Vec<_> = (0..ROUND).map(|n| super::Counted { session: None, ..of("", n) }).collect();
    place.publish(&events).await;
    place.effects(done + ROUND).await;
    let mut shares = Vec::new();
    for (name, before) in names.iter().zip(before) {
        shares.push(place.share(name).await - before);
    }
    shares
}

/// Rounds until the shares are what they should be.
async fn shared<F: Shared>(place: &Place<F>, names: &[&str], holds: fn(&[i64]) -> bool) {
    eventually("the shares", || round(place, names), |shares| holds(shares)).await;
}

/// The shards are shared evenly, so that no share of the work is far from the mean; nothing is lost or done twice.
pub async fn instances_that_join_and_leave_share_the_work<F: Shared>() {
    let place = Place::<F>::new().await;
    let names = ["a", "b", "c"];
    let a = place.start("a", &[]);
    shared(&place, &names, |shares| shares == [ROUND, 0, 0]).await;
    let b = place.start("b", &[]);
    shared(&place, &names, |shares| shares[..2].iter().all(|share| *share > ROUND / 3)).await;
    let c = place.start("c", &[]);
    shared(&place, &names, |shares| shares.iter().all(|share| *share > ROUND / 5)).await;
    a.stop().await;
    shared(&place, &names, |shares| shares[0] == 0 && shares[1..].iter().all(|share| *share > ROUND / 3))
        .await;
    b.stop().await;
    c.stop().await;
    let doubled = "SELECT count(*) FROM effects GROUP BY n";
    let mut conn = place.fixture.conn().await;
    let counts = F::numbers(&mut conn, doubled).await;
    assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "each of {ROUND} once a round: {counts:?}");
}

/// Each of them makes the tables if there are none (rule 22).
pub async fn eight_instances_start_on_an_empty_database<F: Shared>() {
    let place = Place { fixture: F::empty().await, folder: tempfile::tempdir().unwrap() };
    place.fixture.execute(F::EFFECTS).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let instances: Vec<Instance> = names.iter().map(|name| place.start(name, &["migrate"])).collect();
    let count = "SELECT count(*) FROM distributed_events_instances";
    let look = || async {
        let mut conn = place.fixture.conn().await;
        // There may be no such table yet.
        match F::run(&mut conn, "SELECT 1 FROM distributed_events_instances").await {
            Ok(()) => F::numbers(&mut conn, count).await[0],
            Err(_) => 0,
        }
    };
    eventually("all live", look, |live| *live == 8).await;
    place.publish(&(0..50).map(|n| of(&format!("s{}", n % 10), n / 10)).collect::<Vec<_>>()).await;
    place.assert_in_order(10, 5).await;
    for instance in instances {
        instance.stop().await;
    }
}

/// An operator's mistake, a firewall, a failover: all connections at once, again and again.
pub async fn an_instance_lives_on_after_its_connections_were_cut<F: Shared>() {
    let place = Place::<F>::new().await;
    let [_a, _b] = [place.start("a", &["slow"]), place.start("b", &["slow"])];
    for n in 0..20 {
        place.publish(&(0..5).map(|session| of(&format!("s{session}"), n)).collect::<Vec<_>>()).await;
        if n % 5 == 2 {
            place.effects(n * 3).await;
            place.fixture.cut_connections().await;
        }
    }
    place.assert_in_order(5, 20).await;
}
