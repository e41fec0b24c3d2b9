//! Which rows go together into which batch: pure decisions over what was read and what is under way.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::time::Instant;

use crate::broker::BatchLimits;
use crate::envelope::{Envelope, EventId};
use crate::storage::OutboxRow;

/// Rows that were read and are not yet settled, and the batches under way.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    waiting: VecDeque<OutboxRow>,
    waiting_bytes: usize,
    /// Everything in memory, so that reading a row again does not send it twice.
    known: HashMap<EventId, i64>,
    /// Rows that were read and left alone, because their topic is held or their session blocked.
    passed_over: HashSet<i64>,
    /// Sessions with a batch under way: their next event leaves only after its outcome is known (rule 6).
    busy: HashSet<String>,
    /// Topics that can't take events, and until when they are left alone.
    held: HashMap<String, Instant>,
    /// Sessions with an event on a held topic: their later events wait too, whatever their topic (rule 6).
    blocked: HashSet<String>,
}

/// A batch to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) topic: String,
    pub(crate) events: Vec<Envelope>,
}

impl Planned {
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.events.iter().filter_map(|event| event.session_id.clone()).collect()
    }
}

impl Plan {
    /// Takes rows in, unless they are in memory already or their topic is held; rows whose topic is NULL get the
    /// relay's default. Returns the ids of those that can't be sent any more, and why.
    pub(crate) fn add(
        &mut self,
        rows: Vec<OutboxRow>,
        default_topic: &str,
        now: Instant,
    ) -> Vec<(EventId, String)> {
        let mut ended = Vec::new();
        for mut row in rows {
            if self.known.contains_key(&row.envelope.id) {
                continue;
            }
            let expired = || row.expired.then(|| "expired".to_owned());
            if let Some(reason) = row.unreadable.take().or_else(expired) {
                // A session's earlier event under way comes first; the row is read again.
                if !row.envelope.session_id.as_ref().is_some_and(|session| self.busy.contains(session)) {
                    // Until that is written: it takes room, and reading it again must not end it twice.
                    self.known.insert(row.envelope.id, row.seq);
                    ended.push((row.envelope.id, reason));
                }
                continue;
            }
            let topic = row.envelope.topic.get_or_insert_with(|| default_topic.to_owned());
            let held = self.held.get(topic).is_some_and(|until| now < *until);
            let session = row.envelope.session_id.as_ref();
            if held || session.is_some_and(|session| self.blocked.contains(session)) {
                // A delayed event has no place in its session before it is sent.
                if let Some(session) = session.filter(|_| row.envelope.deliver_at.is_none()) {
                    self.blocked.insert(session.clone());
                }
                self.passed_over.insert(row.seq);
                continue;
            }
            self.known.insert(row.envelope.id, row.seq);
            self.waiting_bytes += row.envelope.encoded_size();
            self.waiting.push_back(row);
        }
        ended
    }

    /// The rows that reading again would bring for nothing.
    pub(crate) fn seqs(&self) -> Vec<i64> {
        self.known.values().chain(&self.passed_over).copied().collect()
    }

    /// Whether there is room for more rows: so many bytes that wait, and so many rows that wait, are under way or are not
    /// marked yet.
    pub(crate) fn has_room(&self, rows: usize, bytes: usize) -> bool {
        self.known.len() < rows && self.waiting_bytes < bytes
    }

    /// The next batch: rows of one topic in order, none of a session under way or passed over.
    pub(crate) fn next_batch(&mut self, limits: BatchLimits) -> Option<Planned> {
        let mut planned: Option<Planned> = None;
        let mut bytes = 0;
        let mut full = false;
        let mut passed: HashSet<String> = HashSet::new();
        let mut rest = Vec::new();
        while let Some(row) = self.waiting.pop_front() {
            let size = row.envelope.encoded_size();
            let topic = row.envelope.topic.as_deref().unwrap_or_default();
            let fits = planned.as_ref().is_none_or(|batch| {
                batch.topic == topic && batch.events.len() < limits.events && bytes + size <= limits.bytes
            });
            let free = row
                .envelope
                .session_id
                .as_ref()
                .is_none_or(|session| !self.busy.contains(session) && !passed.contains(session));
            if !full && fits && free {
                bytes += size;
                self.waiting_bytes -= size;
                let batch =
                    planned.get_or_insert_with(|| Planned { topic: topic.to_owned(), events: Vec::new() });
                batch.events.push(row.envelope);
                full = batch.events.len() >= limits.events || bytes >= limits.bytes;
                if full {
                    break;
                }
            } else {
                if let Some(session) = &row.envelope.session_id {
                    passed.insert(session.clone());
                }
                rest.push(row);
            }
        }
        // What was passed over stays before what was not looked at, which is not touched.
        for row in rest.into_iter().rev() {
            self.waiting.push_front(row);
        }
        if let Some(batch) = &planned {
            self.busy.extend(batch.sessions());
        }
        planned
    }

    /// A batch's outcome is known: its sessions are free, and the events that were not settled may be read again.
    pub(crate) fn finished(&mut self, sessions: &[String], unsettled: &[EventId]) {
        for session in sessions {
            self.busy.remove(session);
        }
        for id in unsettled {
            self.known.remove(id);
        }
    }

    /// Rows that are marked are no longer pending and need no memory.
    pub(crate) fn forget(&mut self, ids: &[EventId]) {
        for id in ids {
            self.known.remove(id);
        }
    }

    /// Leaves a topic alone until then, and drops its waiting rows: they are read again.
    pub(crate) fn hold(&mut self, topic: &str, until: Instant) {
        self.held.insert(topic.to_owned(), until);
        self.clear_waiting(|row| row.envelope.topic.as_deref() == Some(topic));
    }

    /// Drops all waiting rows: they are read again from the start, so that order is the table's.
    pub(crate) fn clear(&mut self) {
        self.clear_waiting(|_| true);
        self.passed_over.clear();
    }

    fn clear_waiting(&mut self, drops: impl Fn(&OutboxRow) -> bool) {
        let (known, bytes) = (&mut self.known, &mut self.waiting_bytes);
        self.waiting.retain(|row| {
            let dropped = drops(row);
            if dropped {
                known.remove(&row.envelope.id);
                *bytes -= row.envelope.encoded_size();
            }
            !dropped
        });
    }

    /// Until when a topic is held, if it is.
    pub(crate) fn held_until(&self, topic: &str, now: Instant) -> Option<Instant> {
        self.held.get(topic).copied().filter(|until| now < *until)
    }

    /// Lets go of holds that are over; `true` when there was one, so that everything is read again from the start.
    pub(crate) fn release_holds(&mut self, now: Instant) -> bool {
        let before = self.held.len();
        self.held.retain(|_, until| now < *until);
        let released = self.held.len() < before;
        if released {
            // Read again in order, rows of topics that are still held block their sessions before a later row is seen.
            self.blocked.clear();
            self.passed_over.clear();
        }
        released
    }

    /// When the next hold is over.
    pub(crate) fn next_release(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
mod properties;
