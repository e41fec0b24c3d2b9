//! The leader's reads: when there is one, and what becomes of its rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Leader;
use super::position::{Page, Position};
use crate::envelope::EventId;
use crate::storage::{OutboxRow, Storage, StorageError};

/// Rows kept in memory are bounded by this many bytes beside their number.
const ROOM_BYTES: usize = 32 * 1024 * 1024;
/// Where reading has not come to the end for so many sweeps, it begins again all the same.
const PATIENT_SWEEPS: u32 = 12;

/// A read, with the position that it leaves.
pub(super) struct Looked<DB: Storage> {
    position: Position<DB>,
    read: Result<(Vec<OutboxRow>, Kind), StorageError>,
}

/// What was read.
#[derive(Clone, Copy)]
enum Kind {
    /// Rows that were never delayed.
    Page(Page),
    /// What follows a page: rows whose delay is over; whether there may be more of either kind.
    Due { more: bool },
}

impl<DB: Storage> Leader<DB> {
    /// Reads the next page, where it is time and there is room.
    pub(super) fn start_reading(&mut self, now: Instant) {
        // Whatever was left alone is looked for at once.
        if self.reading.is_idle() && self.plan.release_holds(now) {
            self.sweep(now);
        }
        let settings = &self.relay.settings;
        let rows = (settings.batch_size * settings.in_flight * 4).max(settings.page_size as usize);
        if now < self.look_at || self.circuit.is_shut(now) || !self.plan.has_room(rows, ROOM_BYTES) {
            return;
        }
        if self.must_sweep(now) {
            self.sweep(now);
        }
        let Some(mut position) = self.position.take() else { return };
        // What is in memory already must not fill the page.
        let dealt_with = if position.rereads() { self.plan.seqs() } else { Vec::new() };
        let (relay, reads) = (Arc::clone(&self.relay), Arc::clone(&self.reads));
        self.reading.start(async move {
            let read = async {
                let mut conn = reads.read().await?;
                let (rows, page) = position.page(&mut conn, &relay, &dealt_with).await?;
                let now = Instant::now();
                if !rows.is_empty() || !position.wants_more(page, now) {
                    return Ok((rows, Kind::Page(page)));
                }
                // Nothing has to leave first.
                let (due, more) = position.follow(&mut conn, &relay, page, now).await?;
                Ok((due, Kind::Due { more }))
            };
            let read = read.await;
            Looked { position, read }
        });
    }

    /// Whether it is time to read from the start again: not before the end was reached, or the rows there would never be
    /// read where those before them have to wait (rule 5).
    fn must_sweep(&self, now: Instant) -> bool {
        let at_end = self.position.as_ref().is_some_and(Position::is_at_end);
        let patience = if at_end { Duration::ZERO } else { self.relay.settings.sweep * PATIENT_SWEEPS };
        now >= self.sweep_at + patience
    }

    fn sweep(&mut self, now: Instant) {
        if let Some(position) = &mut self.position {
            position.sweep();
            self.sweep_at = now + self.relay.settings.sweep;
            self.look_at = now;
        }
    }

    /// A read has ended: its rows leave before anything else is asked.
    pub(super) fn looked(&mut self, looked: Looked<DB>) -> Result<(), StorageError> {
        let Looked { mut position, read } = looked;
        let (rows, kind) = read?;
        let now = Instant::now();
        // Marked before this read ended, and so before the next one begins.
        let marked = std::mem::take(&mut self.forget);
        if std::mem::take(&mut self.is_stale) {
            position.reset(now);
            self.position = Some(position);
            self.plan.forget(&marked);
            self.look_at = now;
            return Ok(());
        }
        let more = match kind {
            Kind::Page(page) if position.wants_more(page, now) => {
                self.take_in(rows, &marked, now);
                let (relay, reads) = (Arc::clone(&self.relay), Arc::clone(&self.reads));
                self.reading.start(async move {
                    let read = async {
                        let mut conn = reads.read().await?;
                        let (rows, more) = position.follow(&mut conn, &relay, page, now).await?;
                        Ok((rows, Kind::Due { more }))
                    };
                    let read = read.await;
                    Looked { position, read }
                });
                return Ok(());
            }
            Kind::Page(page) => {
                position.passed(page, None);
                page.is_full
            }
            Kind::Due { more } => more,
        };
        let rereads = position.rereads();
        self.position = Some(position);
        self.look_at = now;
        // While a page is taken in the next is on its way, unless it depends on what is taken in.
        if more && !rereads && self.plan.next_release().is_none_or(|time| now < time) {
            self.start_reading(now);
        }
        self.take_in(rows, &marked, now);
        if more {
            self.pace.found();
        } else {
            self.look_at = now + self.pace.nothing(now);
        }
        Ok(())
    }

    /// Rows that were marked may be among those that were read before, so they are forgotten afterwards.
    fn take_in(&mut self, rows: Vec<OutboxRow>, marked: &[EventId], now: Instant) {
        self.add(rows, now);
        self.plan.forget(marked);
        if self.start_batches(now) {
            self.pace.found();
        }
    }
}
