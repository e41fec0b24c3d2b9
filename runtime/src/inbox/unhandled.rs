//! Events that this instance doesn't handle, while old and new instances run side by side (rule 21).

use std::sync::PoisonError;

use tokio::time::Instant;

use super::shard::Shard;
use super::worker::{Core, Step, Worker};
use crate::storage::{InboxRow, Instance, Storage, StorageError, Verdict};
use crate::telemetry::IncidentKind;

impl<DB: Storage> Core<DB> {
    /// Announces this instance and learns of the others.
    pub(super) async fn announce(&self, conn: &mut DB::Connection) -> Result<Vec<Instance>, StorageError> {
        let asked = Instant::now();
        let live = DB::announce(conn, &self.me, self.settings.lease_time).await?;
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = (Some(asked), live.clone());
        Ok(live)
    }
}

impl<DB: Storage> Worker<DB> {
    /// Whether an instance that lived when the shard was read handles an event, or lives now.
    async fn is_handled_elsewhere(
        &self,
        name: &str,
        version: u32,
        read_at: Option<Instant>,
    ) -> Result<bool, StorageError> {
        let handles = |live: &[Instance]| {
            live.iter().any(|instance| instance.handles(&self.subscription, name, version))
        };
        let known = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            (live.0 >= read_at || handles(&live.1)).then(|| handles(&live.1))
        };
        match known {
            Some(handled) => Ok(handled),
            // One that has come since then must not find its events dead.
            None => Ok(handles(&self.announce(&mut *self.connections.write().await?).await?)),
        }
    }

    /// A row that this instance can't handle.
    pub(super) async fn unknown(
        &self,
        shard: &mut Shard<DB::Horizon>,
        row: &InboxRow,
    ) -> Result<Step, StorageError> {
        let (name, version) = (row.event.name.as_str(), row.event.version);
        if self.is_handled_elsewhere(name, version, shard.read_at).await? {
            shard.block(row, Instant::now() + self.settings.sweep);
            shard.has_foreign();
            let text = format!("version {version} of {name} waits for an instance that handles it");
            self.tell(IncidentKind::WaitingForInstance, row, &text);
            return Ok(Step::Next);
        }
        if self.ignores_unknown && self.routes.get(name).is_none() {
            let first = self.ignored.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
            if first {
                tracing::info!(subscription = %self.subscription, event = name, "ignored: no handler, as declared");
            }
            let mut conn = self.connections.write().await?;
            DB::mark_processed(&mut conn, &[row.seq]).await?;
            return Ok(Step::Next);
        }
        let reason = match self.routes.get(name) {
            Some(route) => format!(
                "no handler for version {version} of {name}: the newest handled here is {}",
                route.version
            ),
            None => format!("no handler for {name} in subscription {}", self.subscription),
        };
        self.end_dead(shard, row, &reason, Verdict::Dead, 0).await
    }
}
