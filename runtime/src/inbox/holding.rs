//! Holding shards: announcing oneself, taking a fair share, renewing, giving back.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::shard::Shard;
use super::worker::Core;
use crate::lease::{Lease, fair_share, renew_every};
use crate::storage::{Fence, Instance, SHARDS, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::watermark::Watermark;
use crate::{chance, crash};

/// The shards of one processor: idle ones here, those at work with their workers.
#[derive(Debug)]
pub(super) struct Holding<H> {
    pub(super) idle: BTreeMap<u8, Shard<H>>,
    /// Proof of every shard held, also of those at work.
    fences: BTreeMap<u8, Fence>,
    /// Shards at work whose leases were renewed meanwhile. One that was lost is in `fences` no more, or with another fence.
    renewed: BTreeMap<u8, Instant>,
    /// Shards to give back as soon as their workers return them.
    leaving: Vec<u8>,
    /// Shards with events that only others handle, and until when they are left to those (rule 21).
    handed_over: BTreeMap<u8, Instant>,
}

impl<H> Holding<H> {
    pub(super) const fn new() -> Self {
        Self {
            idle: BTreeMap::new(),
            fences: BTreeMap::new(),
            renewed: BTreeMap::new(),
            leaving: Vec::new(),
            handed_over: BTreeMap::new(),
        }
    }

    /// Announces this instance, renews what is held, and moves towards a fair share.
    pub(super) async fn renew<DB: Storage<Horizon = H>>(
        &mut self,
        core: &Core<DB>,
    ) -> Result<(), StorageError> {
        let time = core.settings.lease_time;
        let mut conn = core.connections.write().await?;
        let live = core.announce(&mut conn).await?;
        let mut ids: Vec<_> = live
            .iter()
            .filter(|instance| instance.serves(&core.subscription))
            .map(|instance| instance.id)
            .collect();
        ids.sort_unstable();
        let others_lack = others_lack(core, &live);

        let asked = Instant::now();
        let fences: Vec<_> = self.fences.values().cloned().collect();
        crash::point("lease.before-renewal");
        let held =
            if fences.is_empty() { Vec::new() } else { DB::renew_leases(&mut conn, &fences, time).await? };
        crash::point("lease.renewed");
        self.settle_renewal(core, &held, asked);

        let rank = ids.iter().position(|id| *id == core.me.id).unwrap_or_default();
        let share = fair_share(usize::from(SHARDS), ids.len(), rank);
        match Move::towards(share, self.fences.len(), others_lack) {
            Move::Leave(count) => self.choose_leaving(count),
            Move::Take(count) => self.take(core, &mut conn, count).await?,
            Move::Stay => {}
        }

        drop(conn);
        self.release_leaving(core).await
    }

    fn settle_renewal<DB: Storage<Horizon = H>>(&mut self, core: &Core<DB>, held: &[String], asked: Instant) {
        let mut lost = 0;
        let Self { fences, idle, renewed, .. } = self;
        fences.retain(|number, fence| {
            let ours = held.contains(&fence.name);
            match idle.get_mut(number) {
                Some(shard) if ours => shard.lease.renewed(asked, core.settings.lease_time),
                Some(_) => {
                    idle.remove(number);
                }
                None if ours => {
                    renewed.insert(*number, asked);
                }
                None => {
                    renewed.remove(number);
                }
            }
            lost += u64::from(!ours);
            ours
        });
        if lost > 0 {
            core.telemetry.leases_lost("inbox", lost);
            core.telemetry.incidents.report(
                IncidentKind::LeaseLost,
                &core.source,
                format_args!(
                    "{lost} shards went to another instance; what was under way is decided by their rows"
                ),
            );
        }
    }

    fn choose_leaving(&mut self, count: usize) {
        let Self { idle, fences, leaving, .. } = self;
        leaving.retain(|number| fences.contains_key(number));
        let busy = fences.keys().filter(|number| !idle.contains_key(number));
        for number in idle.keys().chain(busy) {
            if leaving.len() < count && !leaving.contains(number) {
                leaving.push(*number);
            }
        }
    }

    async fn take<DB: Storage<Horizon = H>>(
        &mut self,
        core: &Core<DB>,
        conn: &mut DB::Connection,
        count: usize,
    ) -> Result<(), StorageError> {
        let asked = Instant::now();
        self.handed_over.retain(|_, until| asked < *until);
        let names: Vec<_> = (0..SHARDS)
            .filter(|number| !self.fences.contains_key(number) && !self.handed_over.contains_key(number))
            .map(|number| lease_name(&core.subscription, number))
            .collect();

        let limit = u32::try_from(count).unwrap_or(u32::MAX);
        let time = core.settings.lease_time;
        let all_taken = DB::take_leases(conn, &names, chance::id(), limit, time).await?;
        crash::point("lease.taken");
        for taken in all_taken {
            let Some(number) = shard_number(&taken.fence.name) else {
                continue;
            };
            let lease = Lease::new(taken.fence.clone(), asked, time);
            self.fences.insert(number, taken.fence);
            let watermark = Watermark::new(DB::SINGLE_WRITER);
            let shard = Shard::new(number, lease, watermark, taken.unclean, asked, core.settings.sweep);
            self.idle.insert(number, shard);
        }
        Ok(())
    }

    /// Takes a shard back from its worker.
    pub(super) fn put_back(&mut self, mut shard: Shard<H>, lease_time: Duration) {
        // Lost, or lost and taken again meanwhile. Then the newer state counts, and the one that another worker may have.
        if self.fences.get(&shard.number) == Some(&shard.lease.fence) {
            if let Some(asked) = self.renewed.remove(&shard.number) {
                shard.lease.renewed(asked, lease_time);
            }
            if shard.is_foreign() {
                self.handed_over.insert(shard.number, Instant::now() + renew_every(lease_time) * 2);
                self.leaving.push(shard.number);
            }
            self.idle.insert(shard.number, shard);
        }
    }

    /// Leaves a shard whose worker is gone to whoever takes it when its lease has run out.
    pub(super) fn abandon(&mut self, number: u8) {
        self.fences.remove(&number);
        self.renewed.remove(&number);
        self.leaving.retain(|leaving| *leaving != number);
    }

    /// Gives back the shards that are to leave, as far as no worker has them.
    pub(super) async fn release_leaving<DB: Storage<Horizon = H>>(
        &mut self,
        core: &Core<DB>,
    ) -> Result<(), StorageError> {
        let now: Vec<u8> =
            self.leaving.iter().copied().filter(|number| self.idle.contains_key(number)).collect();
        if now.is_empty() {
            return Ok(());
        }
        let fences: Vec<_> = now.iter().filter_map(|number| self.fences.get(number).cloned()).collect();
        let mut conn = core.connections.write().await?;
        crash::point("lease.before-release");
        DB::release_leases(&mut conn, &fences).await?;
        crash::point("lease.released");
        drop(conn);
        self.leaving.retain(|number| !now.contains(number));
        for number in now {
            self.idle.remove(&number);
            self.fences.remove(&number);
        }
        Ok(())
    }

    /// How many shards are held, idle or at work.
    pub(super) fn count(&self) -> usize {
        self.fences.len()
    }

    pub(super) fn is_leaving(&self, number: u8) -> bool {
        self.leaving.contains(&number)
    }

    /// Gives everything back and says goodbye.
    pub(super) async fn retire<DB: Storage<Horizon = H>>(
        &mut self,
        core: &Core<DB>,
    ) -> Result<(), StorageError> {
        let mut conn = core.connections.write().await?;
        let fences: Vec<_> = std::mem::take(&mut self.fences).into_values().collect();
        self.idle.clear();
        crash::point("lease.before-release");
        DB::release_leases(&mut conn, &fences).await?;
        crash::point("lease.released");
        DB::retire(&mut conn, core.me.id).await
    }
}

/// What brings an instance nearer to its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Leave(usize),
    Take(usize),
    Stay,
}

impl Move {
    fn towards(share: usize, held: usize, others_lack: bool) -> Self {
        match share.cmp(&held) {
            Ordering::Less => Self::Leave(held - share),
            Ordering::Greater => Self::Take(share - held),
            // Beyond the share, what others hand over; the surplus leaves with the next renewal.
            Ordering::Equal if others_lack => Self::Take(usize::from(SHARDS)),
            Ordering::Equal => Self::Stay,
        }
    }
}

/// Whether another instance lacks something that this one handles.
fn others_lack<DB: Storage>(core: &Core<DB>, live: &[Instance]) -> bool {
    let subscription = &core.subscription;
    let lacks = |other: &Instance| {
        core.me.handles.iter().any(|own| !other.handles(subscription, &own.event, own.version))
    };
    live.iter().filter(|instance| instance.serves(subscription)).any(lacks)
}

fn lease_name(subscription: &str, shard: u8) -> String {
    format!("inbox:{subscription}:{shard:02}")
}

fn shard_number(name: &str) -> Option<u8> {
    name.rsplit(':').next().and_then(|number| number.parse().ok())
}

#[cfg(test)]
mod properties;
