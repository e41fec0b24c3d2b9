//! When a database's sessions are to make their plans anew.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Who does so little meets no table that has grown meanwhile.
const USES: u32 = 32;
/// Planning takes a thousandth of that.
const TIME: Duration = Duration::from_millis(250);

/// Uses of a pool's connections since one of them was last told to forget its plans. Whoever comes when it is time tells the
/// connection it has, so that all that are used come to it, the busy ones soon.
#[derive(Debug)]
pub(super) struct PlanAge {
    uses: AtomicU32,
    since: Mutex<Instant>,
}

impl Default for PlanAge {
    fn default() -> Self {
        Self { uses: AtomicU32::new(0), since: Mutex::new(Instant::now()) }
    }
}

impl PlanAge {
    /// Whether it is time. Says so once.
    pub(super) fn are_old(&self) -> bool {
        if self.uses.fetch_add(1, Ordering::Relaxed) < USES {
            return false;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() < TIME {
            return false;
        }
        *since = Instant::now();
        self.uses.store(0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn plans_are_old_after_uses_and_a_time() {
        let age = PlanAge::default();
        tokio::time::advance(TIME).await;
        for _ in 0..USES {
            assert!(!age.are_old());
        }
        assert!(age.are_old());
        for _ in 0..3 * USES {
            assert!(!age.are_old());
        }
        tokio::time::advance(TIME).await;
        assert!(age.are_old());
        assert!(!age.are_old());
    }
}
