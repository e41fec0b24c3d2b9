//! A link to a subscription: its locks end with it.

use std::fmt;
use std::time::Duration;

use distributed_events::broker::{Delivery, ReceiveError, Receiver, Source};
use futures_util::future::BoxFuture;

use super::MemoryBroker;

pub(super) struct Link {
    broker: MemoryBroker,
    source: Source,
    number: u64,
}

impl Link {
    pub(super) fn new(broker: MemoryBroker, source: Source, number: u64) -> Self {
        Self { broker, source, number }
    }

    /// What is there now, or nothing.
    fn look(&self, max: usize) -> Result<Vec<Delivery>, ReceiveError> {
        let mut state = self.broker.state();
        if let Some(error) = state.script.receive_error(&self.source) {
            return Err(error);
        }
        let Some(queue) = state.queue(&self.source) else {
            let Source { topic, subscription, .. } = self.source.clone();
            return Err(ReceiveError::Entity { topic, subscription, reason: "there is none".to_owned() });
        };
        let locked = queue.lock(self.number, max);
        if !locked.is_empty() {
            *state.script.received.entry(self.source.clone()).or_default() += locked.len();
        }
        Ok(locked.into_iter().map(|(token, message)| Delivery::new(token, message)).collect())
    }
}

impl Receiver for Link {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(async move {
            let mut changes = self.broker.changes();
            let end = tokio::time::Instant::now() + wait;
            loop {
                let found = self.look(max)?;
                if !found.is_empty() || tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                    return Ok(found);
                }
            }
        })
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            let mut changes = self.broker.changes();
            while !self.broker.state().script.settles.pass() {
                changes.changed().await.unwrap();
            }
            let mut state = self.broker.state();
            let (taken, answer) = state.script.settle();
            let kept =
                !taken || state.queue(&self.source).is_some_and(|queue| queue.complete(self.number, tokens));
            drop(state);
            self.broker.changed();
            if kept {
                answer
            } else {
                answer.and(Err(ReceiveError::Unavailable("a lock was lost".to_owned())))
            }
        })
    }

    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            let mut state = self.broker.state();
            state.script.abandoned += tokens.len();
            if let Some(queue) = state.queue(&self.source) {
                queue.unlock(|link, token| link == self.number && tokens.contains(&token));
            }
            drop(state);
            self.broker.changed();
            Ok(())
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(queue) = self.broker.state().queue(&self.source) {
            queue.unlock(|link, _| link == self.number);
        }
        self.broker.changed();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("source", &self.source)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
