//! When a database's sessions are to make their plans anew.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::idle::WereIdle;

/// At most so often each connection is told, which takes it less than a thousandth of the time.
const TIME: Duration = Duration::from_secs(1);
/// And at most once in so many uses of each, so that idle loops hardly ask more than without.
const USES: u32 = 16;

/// The generations of a pool's plans. A connection that somebody keeps remembers the one it has seen; the idle ones can't, so
/// as many of those that the pool lends next are told.
#[derive(Debug)]
pub(super) struct Plans {
    generation: AtomicU32,
    /// Those that nobody kept when this generation began.
    pub(super) were_idle: WereIdle,
    uses: AtomicU32,
    since: Mutex<Instant>,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            generation: AtomicU32::default(),
            were_idle: WereIdle::default(),
            uses: AtomicU32::default(),
            since: Mutex::new(Instant::now()),
        }
    }
}

impl Plans {
    /// Counts a use of one of so many connections, so many of them idle, and returns the generation.
    pub(super) fn used(&self, connections: u32, idle: usize) -> u32 {
        let uses = self.uses.fetch_add(1, Ordering::Relaxed);
        if uses >= connections.saturating_mul(USES) {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            if since.elapsed() >= TIME {
                *since = Instant::now();
                self.uses.store(0, Ordering::Relaxed);
                self.were_idle.now(idle);
                self.generation.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.generation.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_generation_ends_after_a_time_and_uses_of_each() {
        let plans = Plans::default();
        tokio::time::advance(TIME).await;
        for _ in 0..3 * USES {
            assert_eq!(plans.used(3, 2), 0);
            assert!(!plans.were_idle.take_one());
        }
        assert_eq!(plans.used(3, 2), 1);
        for _ in 0..30 * USES {
            assert_eq!(plans.used(3, 2), 1);
        }
        assert_eq!([(); 3].map(|()| plans.were_idle.take_one()), [true, true, false]);
        tokio::time::advance(TIME).await;
        assert_eq!(plans.used(3, 1), 2);
        assert_eq!([(); 2].map(|()| plans.were_idle.take_one()), [true, false]);
    }
}
