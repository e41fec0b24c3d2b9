//! After an instance has died: who may run beside whom, so that no event ends dead for what another has done (rule 11).

use std::collections::HashSet;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::shutdown::Shutdown;
use crate::simulated::Life;
use crate::storage::InboxRow;

/// One for the process, since it dies as a whole, whichever of its subscriptions it dies of.
static TURNS: RwLock<()> = RwLock::const_new(());

/// The right to run a row whose attempt is written before its handler.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what their drop does")]
pub(super) enum Turn {
    /// Beside others that have their first attempt, too.
    Beside(RwLockReadGuard<'static, ()>),
    /// With nobody beside it that could be blamed, or could have it blamed.
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Waits for it; `None` when it's time to stop.
    ///
    /// A process that dies has counted an attempt of each row that ran just then. So a row that has an attempt, which
    /// may be one of those, runs alone: only what kills the process again and again uses all of them up.
    pub(super) async fn wait(
        life: &Life,
        row: &InboxRow,
        max_attempts: u32,
        stop: &Shutdown,
    ) -> Option<Self> {
        let turns = life.cautious().unwrap_or(&TURNS);
        let mut stop = stop.clone();
        if row.attempts == 0 && max_attempts > 1 {
            return stop.or_stop(turns.read()).await.map(Self::Beside);
        }
        stop.or_stop(turns.write()).await.map(Self::Alone)
    }
}

/// What has run since the takeover, and we are still alive.
#[derive(Debug, Default)]
pub(super) struct Passed {
    sessions: HashSet<String>,
    /// Rows without a session.
    rows: HashSet<i64>,
}

impl Passed {
    pub(super) fn insert(&mut self, row: &InboxRow) {
        match &row.event.session_id {
            Some(session) => self.sessions.insert(session.clone()),
            None => self.rows.insert(row.seq),
        };
    }

    /// The row won't be read again.
    pub(super) fn forget(&mut self, row: &InboxRow) {
        self.rows.remove(&row.seq);
    }

    pub(super) fn contains(&self, row: &InboxRow) -> bool {
        match &row.event.session_id {
            Some(session) => self.sessions.contains(session),
            None => self.rows.contains(&row.seq),
        }
    }
}
