//! How far a lane's table has been read, and the reads that go on from there.

use std::time::Duration;

use tokio::time::Instant;

use super::super::relay::OutboxRelay;
use crate::pace::BUSY;
use crate::storage::{OutboxQuery, OutboxRow, Storage, StorageError};
use crate::watermark::Watermark;

pub(super) struct Position<DB: Storage> {
    watermark: Watermark<DB::Horizon>,
    /// Whether the last page came to the end.
    at_end: bool,
    /// Rows whose delay is over are read after this one.
    due_after: i64,
    /// Not before this are they read, or is it asked whether a horizon has passed: a busy relay looks more often than either
    /// can change.
    due_at: Instant,
}

/// Where a page ended.
#[derive(Clone, Copy)]
pub(super) struct Page {
    last: Option<i64>,
    /// Whether there may be more.
    pub(super) is_full: bool,
}

impl<DB: Storage> Position<DB> {
    pub(super) fn new(now: Instant) -> Self {
        Self { watermark: Watermark::new(DB::SINGLE_WRITER), at_end: false, due_after: 0, due_at: now }
    }

    /// Rows that were never delayed are read from the start again.
    pub(super) fn sweep(&mut self) {
        self.watermark.reset();
    }

    /// All rows are.
    pub(super) fn reset(&mut self, now: Instant) {
        self.watermark.reset();
        (self.due_after, self.due_at) = (0, now);
    }

    /// Whether the last page came to the end.
    pub(super) const fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Whether the next page goes over rows that were read before.
    pub(super) const fn rereads(&self) -> bool {
        self.watermark.rereads()
    }

    /// Reads the next page of rows that were never delayed, without those that were dealt with.
    pub(super) async fn page(
        &mut self,
        conn: &mut DB::Connection,
        relay: &OutboxRelay<DB>,
        dealt_with: &[i64],
    ) -> Result<(Vec<OutboxRow>, Page), StorageError> {
        let query = Self::query(relay).after(self.watermark.low()).except(dealt_with);
        let rows = DB::read_outbox(conn, &query).await?;
        let page = Page { last: rows.last().map(|row| row.seq), is_full: is_full(relay, &rows) };
        self.at_end = !page.is_full;
        self.watermark.saw(rows.iter().map(|row| row.seq));
        Ok((rows, page))
    }

    /// Whether [`follow`](Self::follow) has anything to ask.
    pub(super) fn wants_more(&self, page: Page, now: Instant) -> bool {
        self.wants_horizon(page) || now >= self.due_at
    }

    /// What a page leaves to be asked once its rows are on their way: a horizon, whether the one before has passed, and the
    /// rows whose delay is over. Whether there may be more, of either kind.
    pub(super) async fn follow(
        &mut self,
        conn: &mut DB::Connection,
        relay: &OutboxRelay<DB>,
        page: Page,
        now: Instant,
    ) -> Result<(Vec<OutboxRow>, bool), StorageError> {
        let horizon = if self.wants_horizon(page) { Some(DB::horizon(conn).await?) } else { None };
        self.passed(page, horizon);
        if now < self.due_at {
            return Ok((Vec::new(), page.is_full));
        }
        // Asked after the page and not before it, so that what was just committed is on its way: the next page is the read
        // that has begun later.
        if let Some(horizon) = self.watermark.unproven()
            && DB::has_passed(conn, horizon).await?
        {
            self.watermark.proven();
        }
        // By pages too: those of a topic that is held must not hide the others (rule 5).
        let query = Self::query(relay).after(self.due_after).due_in(relay.broker.schedules_ahead());
        let due = DB::read_outbox(conn, &query).await?;
        let is_full = is_full(relay, &due);
        self.due_after = due.last().filter(|_| is_full).map_or(0, |row| row.seq);
        self.due_at = now + if is_full { Duration::ZERO } else { BUSY };
        Ok((due, page.is_full || is_full))
    }

    /// A page is taken in, and the horizon, where one was wanted, was taken after it.
    pub(super) fn passed(&mut self, page: Page, horizon: Option<DB::Horizon>) {
        self.watermark.read(page.last, end(page), horizon);
    }

    fn wants_horizon(&self, page: Page) -> bool {
        self.watermark.wants_horizon(page.last, end(page))
    }

    fn query(relay: &OutboxRelay<DB>) -> OutboxQuery<'_> {
        OutboxQuery::new(&relay.lane, relay.settings.page_size)
    }
}

fn is_full<DB: Storage>(relay: &OutboxRelay<DB>, rows: &[OutboxRow]) -> bool {
    rows.len() >= relay.settings.page_size as usize
}

/// How far a page came, or `None` where it came to the last row.
fn end(page: Page) -> Option<i64> {
    page.last.filter(|_| page.is_full)
}
