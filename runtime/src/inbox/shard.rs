//! One shard as its holder knows it: from where to read, which sessions wait, and how careful to be.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::caution::Passed;
use crate::crash;
use crate::lease::Lease;
use crate::storage::InboxRow;
use crate::watermark::Watermark;

/// Where reading has not come to the end for so many sweeps, it begins again all the same.
const PATIENT_SWEEPS: u32 = 12;

#[derive(Debug)]
pub(crate) struct Shard<H> {
    pub(crate) number: u8,
    pub(crate) lease: Lease,
    pub(crate) watermark: Watermark<H>,
    /// Sessions that wait for a retry, and until when: their rows are not read (rule 3).
    blocked: HashMap<String, Instant>,
    /// Rows without a session that wait, and when the first is due again.
    waiting: HashSet<i64>,
    row_due: Option<Instant>,
    sweep_at: Instant,
    /// When it was last read.
    pub(crate) read_at: Option<Instant>,
    /// Whether reading has come to the end since the last refresh.
    at_end: bool,
    /// When it was read to the end and all that was left had to wait.
    all_blocked_at: Option<Instant>,
    /// Whether it has events that only another instance handles.
    foreign: bool,
    /// Rows whose attempt was written before a run of which the database's trouble told nothing (rule 11).
    counted: HashSet<i64>,
    /// After an unclean takeover: the heads of sessions run one by one with the attempt written first (rule 11).
    cautious: Option<Passed>,
}

impl<H> Shard<H> {
    pub(crate) fn new(
        number: u8,
        lease: Lease,
        watermark: Watermark<H>,
        unclean: bool,
        now: Instant,
        sweep: Duration,
    ) -> Self {
        Self {
            number,
            lease,
            watermark,
            blocked: HashMap::new(),
            waiting: HashSet::new(),
            row_due: None,
            sweep_at: now + sweep,
            read_at: None,
            at_end: false,
            all_blocked_at: None,
            foreign: false,
            counted: HashSet::new(),
            cautious: unclean.then(Passed::default),
        }
    }

    /// Reads everything again where something may have become due, or a sweep is: not before the end was reached, or
    /// rows behind those that are due again and again would never be read (rule 5).
    pub(crate) fn refresh(&mut self, now: Instant, sweep: Duration) {
        let patience = if self.at_end { Duration::ZERO } else { sweep * PATIENT_SWEEPS };
        let due = self.blocked.values().copied().chain(self.row_due).fold(self.sweep_at, Instant::min);
        if now < due + patience {
            return;
        }
        self.blocked.retain(|_, until| now < *until);
        self.waiting.clear();
        self.row_due = self.row_due.filter(|due| now < *due);
        self.sweep_at = now + sweep;
        self.read_again();
    }

    /// Forgets how far it was read.
    pub(crate) fn read_again(&mut self) {
        self.watermark.reset();
        self.at_end = false;
        self.all_blocked_at = None;
    }

    /// When it has to be refreshed at the latest for a retry.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.blocked.values().copied().chain(self.row_due).min().filter(|_| self.at_end)
    }

    /// Whether a look can find nothing but what waits for blocked sessions, given when something may last have come.
    pub(crate) fn rests(&self, now: Instant, poll_interval: Duration, hinted_at: Instant) -> bool {
        self.all_blocked_at.is_some_and(|read_at| hinted_at < read_at && now < read_at + poll_interval)
    }

    /// It has events that only another instance handles (rule 21).
    pub(crate) fn has_foreign(&mut self) {
        self.foreign = true;
    }

    pub(crate) const fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The row's session waits until then, or the row itself where it has none.
    pub(crate) fn block(&mut self, row: &InboxRow, until: Instant) {
        match &row.event.session_id {
            Some(session) if !crash::is_broken("sessions") => {
                self.blocked.insert(session.clone(), until);
            }
            _ => {
                self.waiting.insert(row.seq);
                self.row_due = Some(self.row_due.map_or(until, |due| due.min(until)));
            }
        }
    }

    pub(crate) fn is_blocked(&self, session: Option<&str>) -> bool {
        session.is_some_and(|session| self.blocked.contains_key(session))
    }

    pub(crate) fn blocked_sessions(&self) -> Vec<String> {
        self.blocked.keys().cloned().collect()
    }

    /// Rows that are read again only when something may have become due.
    pub(crate) fn waiting_rows(&self) -> Vec<i64> {
        self.waiting.iter().copied().collect()
    }

    /// Whether the row may be the one that its last holder died of.
    pub(crate) fn is_cautious(&self, row: &InboxRow) -> bool {
        self.cautious.as_ref().is_some_and(|passed| !passed.contains(row))
    }

    /// A session's head, or a row without a session, has run and we are still alive.
    pub(crate) fn passed(&mut self, row: &InboxRow) {
        if let Some(passed) = &mut self.cautious {
            passed.insert(row);
        }
    }

    /// The row's attempt is written before its handler.
    pub(crate) fn counts(&mut self, row: &InboxRow) {
        self.counted.insert(row.seq);
    }

    /// Whether its attempt was written before a run that told nothing.
    pub(crate) fn is_counted(&self, row: &InboxRow) -> bool {
        self.counted.contains(&row.seq)
    }

    /// What came of the run is written.
    pub(crate) fn settled(&mut self, row: &InboxRow) {
        self.counted.remove(&row.seq);
        if let (Some(passed), false) = (&mut self.cautious, self.waiting.contains(&row.seq)) {
            passed.forget(row);
        }
    }

    /// Reading at that time came to the end: everything that was pending at the takeover has been run or blocked once.
    pub(crate) fn caught_up(&mut self, read_at: Instant) {
        self.at_end = true;
        let waits = !(self.blocked.is_empty() && self.waiting.is_empty());
        self.all_blocked_at = waits.then_some(read_at);
        if self.blocked.is_empty() && self.row_due.is_none() {
            self.cautious = None;
        }
    }
}

#[cfg(test)]
mod properties;
