//! Connections that were idle when something happened.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many of them a pool has not lent since: it lends first what has been idle longest.
#[derive(Debug, Default)]
pub(super) struct WereIdle(AtomicU32);

impl WereIdle {
    /// It happened, to so many of them.
    pub(super) fn now(&self, idle: usize) {
        self.0.store(u32::try_from(idle).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether what the pool lends is one of them.
    pub(super) fn take_one(&self) -> bool {
        let one_less = |idle: u32| idle.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}
