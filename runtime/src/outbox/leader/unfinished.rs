//! What must still be written when the database fails a leader: it outlives the leader (SEMANTICS.md, rule 25).

use super::super::relay::OutboxRelay;
use crate::crash;
use crate::envelope::EventId;
use crate::lease::Fence;
use crate::storage::{Connections, SentRows, Storage, StorageError};
use crate::telemetry::IncidentKind;

#[derive(Debug, Default)]
pub(in crate::outbox) struct Unfinished {
    /// Accepted by the broker and not yet marked.
    pub(super) accepted: Vec<EventId>,
    /// Can never be sent, and why.
    pub(super) dead: Vec<(EventId, String)>,
    /// A lease to be given back: nobody else leads before, or before it has run out.
    pub(in crate::outbox) lease: Option<Fence>,
}

impl Unfinished {
    /// Marks what was accepted and what can never be sent; tells of each what is written.
    pub(in crate::outbox) async fn mark<DB: Storage>(
        &mut self,
        relay: &OutboxRelay<DB>,
        mut written: impl FnMut(&[EventId]),
    ) -> Result<(), StorageError> {
        if self.accepted.is_empty() && self.dead.is_empty() {
            return Ok(());
        }
        let mut conn = relay.connections.write().await?;
        if !self.accepted.is_empty() {
            let keep = if relay.settings.retention.is_some() { SentRows::Keep } else { SentRows::Delete };
            crash::point("relay.before-mark");
            DB::mark_sent(&mut conn, &self.accepted, keep).await?;
            crash::point("relay.after-mark");
            written(&self.accepted);
            self.accepted.clear();
        }
        while let Some((id, reason)) = self.dead.last() {
            crash::point("relay.before-dead");
            let marked = DB::mark_outbox_dead(&mut conn, *id, reason).await?;
            crash::point("relay.after-dead");
            if marked {
                relay.telemetry.dead_in_outbox(&relay.lane, 1);
                relay.telemetry.incidents.report_event(
                    IncidentKind::EventDead,
                    &relay.source,
                    *id,
                    "",
                    reason,
                );
            }
            written(&[*id]);
            self.dead.pop();
        }
        Ok(())
    }

    /// Gives the lease back.
    pub(in crate::outbox) async fn release<DB: Storage>(
        &mut self,
        connections: &Connections<DB>,
    ) -> Result<(), StorageError> {
        if let Some(fence) = &self.lease {
            let mut conn = connections.write().await?;
            crash::point("lease.before-release");
            DB::release_leases(&mut conn, std::slice::from_ref(fence)).await?;
            crash::point("lease.released");
            self.lease = None;
        }
        Ok(())
    }
}
