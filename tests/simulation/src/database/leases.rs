//! Sharing work among instances, and what the model leaves out: the simulation's brokers and operators are others.

use std::time::Duration;

use distributed_events::StorageError;
use distributed_events::storage::{
    AdminStorage, DeadRow, DeadRowFilter, Fence, HintStorage, InboxCounts, IncomingEvent, Instance,
    LeaseStorage, LocalStorage, LocalSubscription, OutboxCounts, OwedEvent, Table, TakenLease,
};
use uuid::Uuid;

use super::driver::{LOCK_TIMEOUT, ModelConnection, ModelDatabase};
use super::rows::{InstanceRow, LeaseRow, State};
use super::server::Inner;
use super::storage::millis;
use super::table::Tx;

impl LeaseStorage for ModelDatabase {
    async fn take_leases(
        conn: &mut ModelConnection,
        names: &[String],
        owner: Uuid,
        limit: u32,
        time: Duration,
    ) -> Result<Vec<TakenLease>, StorageError> {
        let time = millis(time);
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let mut taken = Vec::new();
            for name in names {
                let lease = inner.leases.entry(name.clone()).or_default();
                let is_free = lease.owner.is_none() || lease.until <= now || lease.until > now + time;
                if is_free && taken.len() < limit as usize {
                    lease.unclean = lease.owner.is_some();
                    lease.owner = Some(owner);
                    lease.epoch += 1;
                    lease.until = now + time;
                    taken.push(TakenLease::new(Fence::new(name.clone(), owner, lease.epoch), lease.unclean));
                }
            }
            Ok(taken)
        };
        let kind = names.first().map_or("", |name| name.rsplit_once(':').map_or("", |(kind, _)| kind));
        let taken = conn.run(&format!("take_leases {kind}"), LOCK_TIMEOUT, call).await?;
        if !taken.is_empty() {
            let named = |taken: &TakenLease| {
                format!("{}{}", taken.fence.name, if taken.unclean { " (unclean)" } else { "" })
            };
            conn.say(|| format!("takes {}", taken.iter().map(named).collect::<Vec<_>>().join(", ")));
        }
        Ok(taken)
    }

    async fn renew_leases(
        conn: &mut ModelConnection,
        fences: &[Fence],
        time: Duration,
    ) -> Result<Vec<String>, StorageError> {
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let mut held = Vec::new();
            for fence in fences {
                if let Some(lease) = inner.leases.get_mut(&fence.name)
                    && is_held(lease, fence)
                {
                    lease.until = now + millis(time);
                    held.push(fence.name.clone());
                }
            }
            Ok(held)
        };
        Ok(conn.run("renew_leases", LOCK_TIMEOUT, call).await?)
    }

    async fn release_leases(conn: &mut ModelConnection, fences: &[Fence]) -> Result<(), StorageError> {
        let call = |inner: &mut Inner, _now: i64, _tx: Tx| {
            for fence in fences {
                if let Some(lease) = inner.leases.get_mut(&fence.name)
                    && is_held(lease, fence)
                {
                    (lease.owner, lease.unclean) = (None, false);
                }
            }
            Ok(())
        };
        Ok(conn.run("release_leases", LOCK_TIMEOUT, call).await?)
    }

    async fn bind_lane(conn: &mut ModelConnection, lane: &str, broker: &str) -> Result<String, StorageError> {
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let lease = inner.leases.entry(format!("outbox:{lane}")).or_default();
            let is_live = lease.owner.is_some() && lease.until > now;
            if lease.broker.is_none() || !is_live {
                lease.broker = Some(broker.to_owned());
            }
            Ok(lease.broker.clone().unwrap_or_default())
        };
        Ok(conn.run("bind_lane", LOCK_TIMEOUT, call).await?)
    }

    async fn announce(
        conn: &mut ModelConnection,
        instance: &Instance,
        time: Duration,
    ) -> Result<Vec<Instance>, StorageError> {
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let lasts = millis(time);
            let row = InstanceRow { until: now + lasts, lasts, handles: instance.handles.clone() };
            inner.instances.insert(instance.id, row);
            let lives = |row: &InstanceRow| row.until > now && row.until <= now + 2 * row.lasts;
            let live = inner.instances.iter().filter(|(_, row)| lives(row));
            Ok(live.map(|(id, row)| Instance::new(*id, row.handles.clone())).collect())
        };
        Ok(conn.run("announce", LOCK_TIMEOUT, call).await?)
    }

    async fn retire(conn: &mut ModelConnection, instance: Uuid) -> Result<(), StorageError> {
        let call = |inner: &mut Inner, _now: i64, _tx: Tx| {
            inner.instances.remove(&instance);
            Ok(())
        };
        Ok(conn.run("retire", LOCK_TIMEOUT, call).await?)
    }
}

fn is_held(lease: &LeaseRow, fence: &Fence) -> bool {
    lease.owner == Some(fence.owner) && lease.epoch == fence.epoch
}

impl HintStorage for ModelDatabase {}

/// Nobody of the simulation may ask for these.
fn left_out<T>() -> Result<T, StorageError> {
    Err(StorageError::Unsafe("the model leaves this out".to_owned()))
}

impl AdminStorage for ModelDatabase {
    async fn count_outbox(conn: &mut ModelConnection) -> Result<OutboxCounts, StorageError> {
        let call = |inner: &mut Inner, _now: i64, _tx: Tx| {
            let mut counts = OutboxCounts::default();
            for (_, row) in inner.outbox.seen(None) {
                let lane = counts.lanes.entry(row.envelope.lane.clone()).or_default();
                lane.pending += u64::from(row.state == State::Pending);
                lane.dead += u64::from(row.state == State::Dead);
            }
            Ok(counts)
        };
        Ok(conn.run("count_outbox", LOCK_TIMEOUT, call).await?)
    }

    async fn count_inbox(_conn: &mut ModelConnection) -> Result<InboxCounts, StorageError> {
        left_out()
    }

    async fn dead_rows(
        _conn: &mut ModelConnection,
        _table: Table,
        _filter: &DeadRowFilter,
    ) -> Result<Vec<DeadRow>, StorageError> {
        left_out()
    }

    async fn requeue(
        _conn: &mut ModelConnection,
        _table: Table,
        _seqs: &[i64],
        _delay: Duration,
        _note: Option<&str>,
    ) -> Result<u64, StorageError> {
        left_out()
    }

    async fn resend(
        _conn: &mut ModelConnection,
        _within: Duration,
        _event: Option<&str>,
    ) -> Result<u64, StorageError> {
        left_out()
    }

    async fn discard(
        _conn: &mut ModelConnection,
        _table: Table,
        _seqs: &[i64],
        _note: Option<&str>,
    ) -> Result<u64, StorageError> {
        left_out()
    }
}

impl LocalStorage for ModelDatabase {
    async fn record_subscriptions(
        _conn: &mut ModelConnection,
        _store: &str,
        _subscriptions: &[LocalSubscription],
    ) -> Result<(), StorageError> {
        left_out()
    }

    async fn subscriptions(_conn: &mut ModelConnection) -> Result<Vec<LocalSubscription>, StorageError> {
        left_out()
    }

    async fn forget_subscription(
        _conn: &mut ModelConnection,
        _store: &str,
        _name: &str,
    ) -> Result<u64, StorageError> {
        left_out()
    }

    async fn owe(
        _conn: &mut ModelConnection,
        _store: &str,
        _subscription: &str,
        _events: &[IncomingEvent],
    ) -> Result<(), StorageError> {
        left_out()
    }

    async fn owed(
        _conn: &mut ModelConnection,
        _store: &str,
        _limit: u32,
    ) -> Result<Vec<OwedEvent>, StorageError> {
        left_out()
    }

    async fn paid(_conn: &mut ModelConnection, _seqs: &[i64]) -> Result<(), StorageError> {
        left_out()
    }
}
