//! Instances that come, work, go and die, around a table of leases that is a map here.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const TIME: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Step {
    Join,
    /// Gives everything back.
    Retire(prop::sample::Index),
    /// Its leases run out without a word.
    Die(prop::sample::Index),
    /// Another instance finds its leases run out, though it lives: a long pause.
    Lose(prop::sample::Index),
    Renew(prop::sample::Index),
    /// A worker takes a shard.
    Work(prop::sample::Index, prop::sample::Index),
    /// A worker brings one back, in whatever order.
    Return(prop::sample::Index, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Step::Join),
        1 => index().prop_map(Step::Retire),
        1 => index().prop_map(Step::Die),
        1 => index().prop_map(Step::Lose),
        8 => index().prop_map(Step::Renew),
        8 => (index(), index()).prop_map(|(who, which)| Step::Work(who, which)),
        6 => (index(), index()).prop_map(|(who, which)| Step::Return(who, which)),
    ]
}

struct Instance {
    id: u64,
    holding: Holding<()>,
    /// With workers.
    busy: Vec<Shard<()>>,
}

/// The database: who has which shard, by which fence.
#[derive(Default)]
struct World {
    leases: BTreeMap<u8, (u64, Fence)>,
    instances: Vec<Instance>,
    joined: u64,
    epoch: i64,
    now: Option<Instant>,
}

impl World {
    /// As `Holding::renew` goes, with the map for the database.
    fn renew(&mut self, who: usize) {
        let now = *self.now.get_or_insert_with(Instant::now);
        // Ids are random, so an instance's rank is not its age.
        let rank_of = |id: u64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut ids: Vec<_> = self.instances.iter().map(|instance| rank_of(instance.id)).collect();
        ids.sort_unstable();
        let Self { leases, instances, epoch, .. } = self;
        let live = instances.len();
        let Instance { id, holding, .. } = &mut instances[who];
        let ours = |number: &u8, fence: &Fence| leases.get(number).is_some_and(|(_, held)| held == fence);
        let lost: Vec<_> =
            holding.fences.iter().filter(|(n, fence)| !ours(n, fence)).map(|(n, _)| *n).collect();
        for number in lost {
            holding.fences.remove(&number);
            if holding.idle.remove(&number).is_none() {
                holding.renewed.remove(&number);
            }
        }
        let rank = ids.iter().position(|other| *other == rank_of(*id)).unwrap();
        let share = fair_share(usize::from(SHARDS), live, rank);
        match Move::towards(share, holding.fences.len(), false) {
            Move::Leave(count) => {
                let chosen = holding.leaving.iter().filter(|n| holding.fences.contains_key(n)).count();
                holding.choose_leaving(count);
                assert_eq!(holding.leaving.len(), count.max(chosen), "no more than are too many");
                let leaving: BTreeSet<_> = holding.leaving.iter().collect();
                assert_eq!(leaving.len(), holding.leaving.len(), "each leaves once");
                assert!(leaving.len() >= count && leaving.iter().all(|n| holding.fences.contains_key(n)));
            }
            Move::Take(count) => {
                let free: Vec<_> =
                    (0..SHARDS).filter(|number| !leases.contains_key(number)).take(count).collect();
                for number in free {
                    *epoch += 1;
                    let fence = Fence::new(lease_name("billing", number), Uuid::nil(), *epoch);
                    assert_eq!(shard_number(&fence.name), Some(number));
                    let lease = Lease::new(fence.clone(), now, TIME);
                    leases.insert(number, (*id, fence.clone()));
                    assert!(holding.fences.insert(number, fence).is_none(), "nobody owns a shard twice");
                    holding
                        .idle
                        .insert(number, Shard::new(number, lease, Watermark::new(false), false, now, TIME));
                }
            }
            Move::Stay => {}
        }
        self.release(who);
    }

    /// As `Holding::release_leaving` goes.
    fn release(&mut self, who: usize) {
        let Instance { holding, .. } = &mut self.instances[who];
        let leaving: Vec<_> =
            holding.leaving.iter().copied().filter(|n| holding.idle.contains_key(n)).collect();
        for number in leaving {
            holding.leaving.retain(|other| *other != number);
            holding.idle.remove(&number);
            if let Some(fence) = holding.fences.remove(&number)
                && self.leases.get(&number).is_some_and(|(_, held)| *held == fence)
            {
                self.leases.remove(&number);
            }
        }
    }

    fn bring_back(&mut self, who: usize) {
        for shard in std::mem::take(&mut self.instances[who].busy) {
            self.instances[who].holding.put_back(shard, TIME);
        }
        self.release(who);
    }

    fn step(&mut self, step: &Step) {
        let count = self.instances.len();
        match step {
            Step::Join => {
                self.joined += 1;
                self.instances.push(Instance { id: self.joined, holding: Holding::new(), busy: Vec::new() });
            }
            _ if count == 0 => {}
            Step::Retire(who) | Step::Die(who) => {
                let gone = self.instances.remove(who.index(count)).id;
                self.leases.retain(|_, (owner, _)| *owner != gone);
            }
            Step::Lose(who) => {
                let paused = self.instances[who.index(count)].id;
                self.leases.retain(|_, (owner, _)| *owner != paused);
            }
            Step::Renew(who) => self.renew(who.index(count)),
            Step::Return(who, which) => {
                let Instance { holding, busy, .. } = &mut self.instances[who.index(count)];
                if !busy.is_empty() {
                    holding.put_back(busy.swap_remove(which.index(busy.len())), TIME);
                }
                self.release(who.index(count));
            }
            Step::Work(who, which) => {
                let Instance { holding, busy, .. } = &mut self.instances[who.index(count)];
                let mut idle: Vec<_> = holding.idle.keys().copied().collect();
                // Rather one that was lost and taken again while another worker had it: few are, of so many.
                if idle.iter().any(|number| busy.iter().any(|shard| shard.number == *number)) {
                    idle.retain(|number| busy.iter().any(|shard| shard.number == *number));
                }
                if !idle.is_empty() {
                    busy.extend(holding.idle.remove(which.get(&idle)));
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        for Instance { id, holding, busy } in &self.instances {
            for shard in holding.idle.values() {
                assert_eq!(holding.fences.get(&shard.number), Some(&shard.lease.fence), "idle is held");
            }
            for (number, fence) in &holding.fences {
                let has = |shard: &Shard<()>| shard.lease.fence == *fence;
                assert!(
                    holding.idle.get(number).is_some_and(has) || busy.iter().any(has),
                    "shard {number} is held, and nobody has it"
                );
            }
            let at_work: BTreeSet<_> = busy.iter().map(|shard| shard.number).collect();
            assert!(at_work.iter().all(|n| !holding.idle.contains_key(n)
                || holding.renewed.contains_key(n)
                || {
                    // Lost and taken again while a worker had it.
                    let old = busy.iter().find(|shard| shard.number == *n);
                    old.is_some_and(|old| holding.fences.get(n) != Some(&old.lease.fence))
                }));
            let owned = self.leases.iter().filter(|(_, (owner, _))| owner == id);
            for (number, (_, fence)) in owned {
                assert_eq!(holding.fences.get(number), Some(fence), "{id} knows what it owns");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn instances_come_and_go_and_the_shards_are_shared_out(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Join);
        // Nobody comes or goes any more: one round to give back, and one to take.
        for _ in 0..3 {
            for who in 0..world.instances.len() {
                world.bring_back(who);
                world.renew(who);
                world.check();
            }
        }
        prop_assert_eq!(world.leases.len(), usize::from(SHARDS), "all are held");
        let held: Vec<_> = world.instances.iter().map(|instance| instance.holding.fences.len()).collect();
        prop_assert_eq!(held.iter().sum::<usize>(), usize::from(SHARDS));
        prop_assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "{held:?}");
        // And from then on they rest.
        let before: Vec<_> = world.leases.iter().map(|(number, (owner, _))| (*number, *owner)).collect();
        for who in 0..world.instances.len() {
            world.renew(who);
        }
        let after: Vec<_> = world.leases.iter().map(|(number, (owner, _))| (*number, *owner)).collect();
        prop_assert_eq!(before, after, "what is shared out is left alone");
    }

    #[test]
    fn a_move_ends_at_the_share(share in 0..=64_usize, held in 0..=64_usize, others_lack: bool) {
        match Move::towards(share, held, others_lack) {
            Move::Leave(count) => prop_assert_eq!(held - count, share),
            Move::Take(count) if share > held => prop_assert_eq!(held + count, share),
            Move::Take(_) => prop_assert!(others_lack && share == held),
            Move::Stay => prop_assert!(!others_lack && share == held),
        }
    }
}
