//! When a database's sessions are to make their plans anew.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::idle::WereIdle;

/// At most so often a connection is told.
const TIME: Duration = Duration::from_secs(1);
/// And at most once in so much work of each, of which making the plans anew takes less than a hundredth. What has little to do
/// meets next to no delay so, and who goes through large tables comes to it soon.
const WORK: Duration = Duration::from_millis(250);

/// The generations of a pool's plans. A connection that somebody keeps remembers the one it has seen; the idle ones can't, so
/// as many of those that the pool lends next are told.
#[derive(Debug)]
pub(super) struct Plans {
    generation: AtomicU32,
    /// Those that nobody kept when this generation began.
    pub(super) were_idle: WereIdle,
    /// For how many microseconds connections were lent in it.
    work: AtomicU64,
    since: Mutex<Instant>,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            generation: AtomicU32::default(),
            were_idle: WereIdle::default(),
            work: AtomicU64::default(),
            since: Mutex::new(Instant::now()),
        }
    }
}

impl Plans {
    /// The generation, where there are so many connections, so many of them idle.
    pub(super) fn generation(&self, connections: u32, idle: usize) -> u32 {
        let work = Duration::from_micros(self.work.load(Ordering::Relaxed));
        if work >= WORK.saturating_mul(connections) {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            if since.elapsed() >= TIME {
                *since = Instant::now();
                self.work.store(0, Ordering::Relaxed);
                self.were_idle.now(idle);
                self.generation.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.generation.load(Ordering::Relaxed)
    }

    /// A connection was lent for so long.
    pub(super) fn worked(&self, time: Duration) {
        self.work.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_generation_ends_after_a_time_and_work_of_each() {
        let plans = Plans::default();
        tokio::time::advance(TIME).await;
        for _ in 0..3 {
            assert_eq!(plans.generation(3, 2), 0);
            assert!(!plans.were_idle.take_one());
            plans.worked(WORK);
        }
        assert_eq!(plans.generation(3, 2), 1);
        plans.worked(30 * WORK);
        assert_eq!(plans.generation(3, 2), 1);
        assert_eq!([(); 3].map(|()| plans.were_idle.take_one()), [true, true, false]);
        tokio::time::advance(TIME).await;
        assert_eq!(plans.generation(3, 1), 2);
        assert_eq!([(); 2].map(|()| plans.were_idle.take_one()), [true, false]);
        tokio::time::advance(TIME).await;
        assert_eq!(plans.generation(3, 1), 2);
    }
}
