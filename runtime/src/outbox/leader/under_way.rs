//! What is under way while the leader does other things.

use std::future::{Future, pending};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::simulated;

/// Tasks of one kind, which end with their owner.
pub(super) struct UnderWay<T> {
    tasks: JoinSet<T>,
    /// When one of them last began after none was there, or ended.
    since: Instant,
}

impl<T: Send + 'static> UnderWay<T> {
    pub(super) fn nothing() -> Self {
        Self { tasks: JoinSet::new(), since: Instant::now() }
    }

    /// Whether none has ended for so long, although there are some: the database may never answer.
    pub(super) fn is_stuck(&self, now: Instant, time: Duration) -> bool {
        !self.is_idle() && now >= self.since + time
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn start(&mut self, future: impl Future<Output = T> + Send + 'static) {
        if self.is_idle() {
            self.since = Instant::now();
        }
        self.tasks.spawn(simulated::task(future));
    }

    /// Waits for the next to end, for ever where there is none. Waiting can be given up and begun again.
    pub(super) async fn ended(&mut self) -> T {
        let ended = self.tasks.join_next().await;
        self.since = Instant::now();
        match ended {
            Some(Ok(output)) => output,
            // As if it had been done here.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Aborted together with us.
            Some(Err(_)) | None => pending().await,
        }
    }

    /// Waits until all have ended, but no longer than this.
    pub(super) async fn all_ended(&mut self, time: Duration) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        let all = async {
            while !self.is_idle() {
                outputs.push(self.ended().await);
            }
        };
        let _in_time = tokio::time::timeout(time, all).await;
        self.tasks.abort_all();
        outputs
    }
}
