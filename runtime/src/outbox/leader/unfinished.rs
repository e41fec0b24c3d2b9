//! What must still be written when the database fails a leader: it outlives the leader (SEMANTICS.md, rule 25).

use super::super::relay::OutboxRelay;
use crate::crash;
use crate::envelope::EventId;
use crate::lease::Fence;
use crate::storage::{Connections, SentRows, Storage, StorageError};
use crate::telemetry::IncidentKind;

/// Nobody else writes while they are, where a database has one writer.
const DEAD_AT_ONCE: usize = 50;

#[derive(Debug, Default)]
pub(in crate::outbox) struct Unfinished {
    pub(super) marks: Marks,
    /// A lease to be given back: nobody else leads before, or before it has run out.
    pub(in crate::outbox) lease: Option<Fence>,
}

/// Marks to be made.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Accepted by the broker and not yet marked.
    pub(super) accepted: Vec<EventId>,
    /// Can never be sent, and why.
    pub(super) dead: Vec<(EventId, String)>,
}

/// What became of marks.
pub(super) struct Marked {
    pub(super) written: Vec<EventId>,
    /// Those that the database would not take.
    pub(super) left: Marks,
    pub(super) result: Result<(), StorageError>,
}

impl Unfinished {
    /// Marks what was accepted and what can never be sent.
    pub(in crate::outbox) async fn mark<DB: Storage>(
        &mut self,
        relay: &OutboxRelay<DB>,
    ) -> Result<(), StorageError> {
        let marked = std::mem::take(&mut self.marks).write(relay).await;
        self.marks.add(marked.left);
        marked.result
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

impl Marks {
    pub(super) const fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.dead.is_empty()
    }

    /// Takes so many of what was accepted, and a few of what can't be sent: those are written one by one.
    pub(super) fn take(&mut self, most: usize) -> Self {
        let rest = self.accepted.split_off(most.min(self.accepted.len()));
        let dead = self.dead.split_off(self.dead.len().saturating_sub(DEAD_AT_ONCE));
        Self { accepted: std::mem::replace(&mut self.accepted, rest), dead }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.dead.extend(other.dead);
    }

    /// Writes them, as far as the database takes them.
    pub(super) async fn write<DB: Storage>(mut self, relay: &OutboxRelay<DB>) -> Marked {
        let mut written = Vec::new();
        let result = if self.is_empty() { Ok(()) } else { self.write_into(relay, &mut written).await };
        Marked { written, left: self, result }
    }

    async fn write_into<DB: Storage>(
        &mut self,
        relay: &OutboxRelay<DB>,
        written: &mut Vec<EventId>,
    ) -> Result<(), StorageError> {
        let mut conn = relay.connections.write().await?;
        if !self.accepted.is_empty() {
            let keep = if relay.settings.retention.is_some() { SentRows::Keep } else { SentRows::Delete };
            crash::point("relay.before-mark");
            DB::mark_sent(&mut conn, &self.accepted, keep).await?;
            crash::point("relay.after-mark");
            written.append(&mut self.accepted);
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
            written.push(*id);
            self.dead.pop();
        }
        Ok(())
    }
}
