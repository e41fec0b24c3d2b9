//! One shard as its holder knows it: from where to read, which sessions wait, and how careful to be.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::Lease;
use crate::storage::InboxRow;
use crate::watermark::Watermark;

#[derive(Debug)]
pub(crate) struct Shard<H> {
    pub(crate) number: u8,
    pub(crate) lease: Lease,
    pub(crate) watermark: Watermark<H>,
    /// Sessions that wait for a retry, and until when: their rows are not read (rule 3).
    blocked: HashMap<String, Instant>,
    /// When a row without a session is due again.
    row_due: Option<Instant>,
    sweep_at: Instant,
    /// After an unclean takeover: the heads of sessions run one by one with the attempt written first (rule 11).
    cautious: Option<HashSet<String>>,
}

impl<H> Shard<H> {
    pub(crate) fn new(number: u8, lease: Lease, unclean: bool, now: Instant, sweep: Duration) -> Self {
        Self {
            number,
            lease,
            watermark: Watermark::new(),
            blocked: HashMap::new(),
            row_due: None,
            sweep_at: now + sweep,
            cautious: unclean.then(HashSet::new),
        }
    }

    /// Reads everything again where something may have become due, or a sweep is.
    pub(crate) fn refresh(&mut self, now: Instant, sweep: Duration) {
        let before = self.blocked.len();
        self.blocked.retain(|_, until| now < *until);
        let due = self.row_due.is_some_and(|due| due <= now);
        if due {
            self.row_due = None;
        }
        if before != self.blocked.len() || due || now >= self.sweep_at {
            self.watermark.reset();
            self.sweep_at = now + sweep;
        }
    }

    /// When it has to be refreshed at the latest for a retry.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.blocked.values().copied().chain(self.row_due).min()
    }

    /// The row's session waits until then, or the row itself where it has none.
    pub(crate) fn block(&mut self, session: Option<&str>, until: Instant) {
        match session {
            Some(session) => {
                self.blocked.insert(session.to_owned(), until);
            }
            None => self.row_due = Some(self.row_due.map_or(until, |due| due.min(until))),
        }
    }

    pub(crate) fn is_blocked(&self, session: Option<&str>) -> bool {
        session.is_some_and(|session| self.blocked.contains_key(session))
    }

    pub(crate) fn blocked_sessions(&self) -> Vec<String> {
        self.blocked.keys().cloned().collect()
    }

    /// Whether the row may be the one that its last holder died of.
    pub(crate) fn is_cautious(&self, row: &InboxRow) -> bool {
        self.cautious.as_ref().is_some_and(|passed| {
            row.event
                .session_id
                .as_ref()
                .is_none_or(|session| !passed.contains(session))
        })
    }

    /// A session's head has run and we are still alive.
    pub(crate) fn passed(&mut self, row: &InboxRow) {
        if let (Some(passed), Some(session)) = (&mut self.cautious, &row.event.session_id) {
            passed.insert(session.clone());
        }
    }

    /// Everything that was pending at the takeover has been run or blocked once.
    pub(crate) fn caught_up(&mut self) {
        if self.blocked.is_empty() && self.row_due.is_none() {
            self.cautious = None;
        }
    }
}
