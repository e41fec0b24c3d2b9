//! Sharing work among instances.

use std::collections::HashSet;
use std::time::Duration;

use distributed_events::storage::{Fence, Handled, Instance, LeaseStorage, TakenLease};
use uuid::Uuid;

use super::{Fixture, LEASE_TIME, take, try_take};

async fn renew<F: Fixture>(fixture: &F, fences: &[Fence]) -> Vec<String> {
    F::DB::renew_leases(&mut *fixture.conn().await, fences, LEASE_TIME).await.unwrap()
}

async fn release<F: Fixture>(fixture: &F, fence: &Fence) {
    F::DB::release_leases(&mut *fixture.conn().await, std::slice::from_ref(fence)).await.unwrap();
}

/// One at a time, each time another owner and a higher epoch.
pub async fn a_lease_has_one_holder<F: Fixture>() {
    let fixture = F::fresh().await;
    let first = take(&fixture, "outbox:default").await;
    assert!(!first.unclean, "nobody held it before");
    assert_eq!(try_take(&fixture, "outbox:default").await, None);
    assert!(try_take(&fixture, "outbox:Default").await.is_some(), "names are exact");
    release(&fixture, &first.fence).await;
    let second = take(&fixture, "outbox:default").await;
    assert_ne!(second.fence.owner, first.fence.owner);
    assert!(second.fence.epoch > first.fence.epoch);
}

/// The one before may have died in the middle of something (rule 11).
pub async fn an_expired_lease_is_taken_uncleanly<F: Fixture>() {
    let fixture = F::fresh().await;
    let first = take(&fixture, "lease").await;
    fixture.set_lease_until("lease", 20_000).await;
    assert_eq!(try_take(&fixture, "lease").await, None, "twenty seconds are left");
    fixture.set_lease_until("lease", -1).await;
    let second = take(&fixture, "lease").await;
    assert!(second.unclean);
    assert!(second.fence.epoch > first.fence.epoch);
    release(&fixture, &second.fence).await;
    assert!(!take(&fixture, "lease").await.unclean, "it was cleaned up");
}

/// So that the next need not run the heads one by one.
pub async fn a_released_lease_is_taken_cleanly<F: Fixture>() {
    let fixture = F::fresh().await;
    let first = take(&fixture, "lease").await;
    release(&fixture, &first.fence).await;
    let second = take(&fixture, "lease").await;
    assert!(!second.unclean);
    release(&fixture, &first.fence).await;
    assert_eq!(try_take(&fixture, "lease").await, None, "an old fence releases nothing");
}

/// Rule 29: a clock that jumped back must not stop a lane for years.
pub async fn a_lease_from_the_future_counts_as_expired<F: Fixture>() {
    let fixture = F::fresh().await;
    take(&fixture, "lease").await;
    fixture.set_lease_until("lease", 365 * 24 * 3_600_000).await;
    assert!(take(&fixture, "lease").await.unclean);
}

/// Up to the limit, those named first.
pub async fn leases_are_taken_in_the_order_asked_for<F: Fixture>() {
    let fixture = F::fresh().await;
    let names: Vec<_> = ["z", "m", "a", "k"].map(str::to_owned).to_vec();
    take(&fixture, "m").await;
    let owner = Uuid::new_v4();
    let mut conn = fixture.conn().await;
    let taken = F::DB::take_leases(&mut *conn, &names, owner, 2, LEASE_TIME).await.unwrap();
    let of =
        |taken: &[TakenLease]| taken.iter().map(|lease| lease.fence.name.clone()).collect::<HashSet<_>>();
    assert_eq!(of(&taken), HashSet::from(["z".to_owned(), "a".to_owned()]));
    assert!(taken.iter().all(|lease| lease.fence.owner == owner && !lease.unclean));
    let rest = F::DB::take_leases(&mut *conn, &names, Uuid::new_v4(), 9, LEASE_TIME).await.unwrap();
    assert_eq!(of(&rest), HashSet::from(["k".to_owned()]));
    assert!(F::DB::take_leases(&mut *conn, &[], owner, 9, LEASE_TIME).await.unwrap().is_empty());
    assert!(
        F::DB::take_leases(&mut *conn, &["new".to_owned()], owner, 0, LEASE_TIME).await.unwrap().is_empty()
    );
}

/// Renewing tells at once what was lost.
pub async fn only_the_holder_renews<F: Fixture>() {
    let fixture = F::fresh().await;
    let (kept, lost) = (take(&fixture, "kept").await.fence, take(&fixture, "lost").await.fence);
    fixture.set_lease_until("kept", -1).await;
    fixture.set_lease_until("lost", -1).await;
    let next = take(&fixture, "lost").await.fence;
    let fences = [kept.clone(), lost.clone()];
    assert_eq!(renew(&fixture, &fences).await, ["kept"], "expired and not taken is still held");
    assert_eq!(try_take(&fixture, "kept").await, None, "and lasts again");
    assert_eq!(renew(&fixture, &[next]).await, ["lost"]);
    let wrong = Fence::new(kept.name.clone(), kept.owner, kept.epoch + 1);
    assert!(renew(&fixture, &[wrong]).await.is_empty());
    release(&fixture, &kept).await;
    assert!(renew(&fixture, &[kept]).await.is_empty());
    assert!(renew(&fixture, &[]).await.is_empty());
}

/// A zombie's last words.
pub async fn only_the_holder_releases<F: Fixture>() {
    let fixture = F::fresh().await;
    let zombie = take(&fixture, "lease").await.fence;
    fixture.set_lease_until("lease", -1).await;
    let holder = take(&fixture, "lease").await.fence;
    release(&fixture, &zombie).await;
    assert_eq!(try_take(&fixture, "lease").await, None);
    assert_eq!(renew(&fixture, &[holder]).await, ["lease"]);
}

/// Instances reach for 64 shards at once, again and again: what one has just taken is neither free nor from the future.
pub async fn two_instances_never_share_a_lease<F: Fixture>() {
    let fixture = F::fresh().await;
    for round in 0..10 {
        let names: Vec<_> = (0..64).map(|shard| format!("inbox:billing {round}:{shard}")).collect();
        let instance = async || {
            let mut conn = fixture.conn().await;
            let mut taken = Vec::new();
            for _ in 0..8 {
                let more =
                    F::DB::take_leases(&mut *conn, &names, Uuid::new_v4(), 3, LEASE_TIME).await.unwrap();
                assert!(more.len() <= 3);
                taken.extend(more.into_iter().map(|lease| lease.fence.name));
            }
            taken
        };
        let (a, b, c) = tokio::join!(instance(), instance(), instance());
        let all: Vec<_> = [a, b, c].concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "round {round}");
        assert_eq!(all.len(), 64, "round {round}");
    }
}

/// Rule 23.
pub async fn a_lane_is_bound_to_one_broker<F: Fixture>() {
    let fixture = F::fresh().await;
    let bind = async |lane: &str, broker: &str| {
        F::DB::bind_lane(&mut *fixture.conn().await, lane, broker).await.unwrap()
    };
    assert_eq!(bind("default", "a").await, "a");
    assert_eq!(bind("default", "b").await, "b", "nobody leads the lane");
    let lease = take(&fixture, "outbox:default").await;
    assert_eq!(bind("default", "b").await, "b");
    assert_eq!(bind("default", "c").await, "b", "whoever leads has the say");
    assert_eq!(bind("critical", "c").await, "c", "another lane");
    fixture.set_lease_until("outbox:default", -1).await;
    assert_eq!(bind("default", "c").await, "c", "the leader is gone");
    let next = take(&fixture, "outbox:default").await;
    assert!(next.unclean && next.fence.epoch > lease.fence.epoch, "binding leaves the lease alone");
    release(&fixture, &next.fence).await;
    assert_eq!(bind("default", "d").await, "d");
}

fn handled(event: &str, version: u32) -> Handled {
    Handled { subscription: "billing".to_owned(), event: event.to_owned(), version }
}

/// Rule 21.
pub async fn instances_live_as_long_as_announced<F: Fixture>() {
    let fixture = F::fresh().await;
    let time = Duration::from_secs(30);
    let announce = async |instance: &Instance| {
        let mut live = F::DB::announce(&mut *fixture.conn().await, instance, time).await.unwrap();
        live.sort_by_key(|instance| instance.id);
        live
    };
    let mut old = Instance::new(Uuid::from_u128(1), vec![handled("a", 1)]);
    let new = Instance::new(Uuid::from_u128(2), vec![handled("a", 2), handled("b\"'", 1)]);
    let idle = Instance::new(Uuid::from_u128(3), Vec::new());
    assert_eq!(announce(&old).await, std::slice::from_ref(&old));
    assert_eq!(announce(&new).await, [old.clone(), new.clone()]);
    old.handles.push(handled("c", 1));
    assert_eq!(announce(&old).await, [old.clone(), new.clone()], "what it says last counts");
    fixture.set_instance_until(old.id, -1).await;
    assert_eq!(announce(&idle).await, [new.clone(), idle.clone()]);
    assert_eq!(announce(&old).await, [old.clone(), new.clone(), idle.clone()], "it was only late");
    F::DB::retire(&mut *fixture.conn().await, new.id).await.unwrap();
    assert_eq!(announce(&idle).await, [old.clone(), idle.clone()]);
    fixture.set_instance_until(old.id, -30 * 24 * 3_600_000).await;
    announce(&idle).await;
    let left = fixture.number("SELECT count(*) FROM distributed_events_instances").await;
    assert_eq!(left, 1, "the long dead are forgotten");
}

/// A clock that jumped back must not keep rows waiting for a dead instance.
pub async fn an_instance_from_the_future_is_dead<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut conn = fixture.conn().await;
    let gone = Instance::new(Uuid::from_u128(1), Vec::new());
    let here = Instance::new(Uuid::from_u128(2), Vec::new());
    F::DB::announce(&mut *conn, &gone, Duration::from_secs(30)).await.unwrap();
    fixture.set_instance_until(gone.id, 365 * 24 * 3_600_000).await;
    let live = F::DB::announce(&mut *conn, &here, Duration::from_secs(10)).await.unwrap();
    assert_eq!(live, std::slice::from_ref(&here));
    let live = F::DB::announce(&mut *conn, &gone, Duration::from_secs(300)).await.unwrap();
    assert_eq!(live.len(), 2, "times may differ among live instances");
}
