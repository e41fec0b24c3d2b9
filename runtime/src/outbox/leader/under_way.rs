//! What is under way while the leader does other things.

use std::future::{Future, pending};

use tokio::task::JoinSet;

use crate::simulated;

/// Tasks of one kind, which end with their owner.
pub(super) struct UnderWay<T>(JoinSet<T>);

impl<T: Send + 'static> UnderWay<T> {
    pub(super) fn nothing() -> Self {
        Self(JoinSet::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn start(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.0.spawn(simulated::task(future));
    }

    /// Waits for the next to end, for ever where there is none. Waiting can be given up and begun again.
    pub(super) async fn ended(&mut self) -> T {
        match self.0.join_next().await {
            Some(Ok(output)) => output,
            // As if it had been done here.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Aborted together with us.
            Some(Err(_)) | None => pending().await,
        }
    }

    /// Waits until all have ended.
    pub(super) async fn all_ended(&mut self) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        while !self.is_idle() {
            outputs.push(self.ended().await);
        }
        outputs
    }
}
