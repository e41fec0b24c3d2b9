//! A link to a subscription of the simulated broker; its locks end with it, unless its process has died.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::namespace::SimulatedBroker;
use crate::broker::{Delivery, ReceiveError, Receiver, Source};

/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Link {
    broker: SimulatedBroker,
    source: Source,
    number: u64,
    cuts: u64,
}

impl Link {
    pub(super) fn new(broker: SimulatedBroker, source: Source, number: u64) -> Self {
        let cuts = broker.namespace.cuts();
        Self { broker, source, number, cuts }
    }

    async fn arrive(&self) -> Result<(), ReceiveError> {
        let process = &self.broker.process;
        process.travel(&mut process.draw("link")).await;
        if self.broker.namespace.is_away() || self.broker.namespace.cuts() != self.cuts {
            return Err(ReceiveError::Unavailable("the link is cut".to_owned()));
        }
        Ok(())
    }

    async fn receive_messages(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let end = Instant::now() + wait;
        loop {
            self.arrive().await?;
            let process = &self.broker.process;
            let mut draw = process.draw("receive");
            // One at a time as often as many: what comes together and what does not is the seed's to say.
            let most = if draw.happens(50) { 1 + draw.below(3) } else { u64::MAX };
            let max = usize::try_from(most).unwrap_or(max).min(max);
            let locked = if self.source.dead_letter_queue {
                Vec::new()
            } else {
                self.broker.namespace.lock(&self.source, self.number, max)
            };
            if !locked.is_empty() || Instant::now() >= end {
                let mut deliveries = Vec::new();
                for (token, message) in locked {
                    let twice = process.shared().is_troubled() && draw.happens(5);
                    deliveries.extend(twice.then(|| Delivery::new(0, message.clone())));
                    deliveries.push(Delivery::new(token, message));
                }
                if !deliveries.is_empty() {
                    process.say(|| {
                        format!("receives {} messages of {}", deliveries.len(), self.source.entity())
                    });
                }
                self.arrive().await?;
                return Ok(deliveries);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn settle(&self, tokens: &[u64]) -> Result<(), ReceiveError> {
        self.arrive().await?;
        let process = &self.broker.process;
        if process.shared().is_troubled() && process.draw("settle").happens(5) {
            process.say(|| format!("{} settles are lost", tokens.len()));
            return Err(ReceiveError::Unavailable("the link was cut before the settles".to_owned()));
        }
        self.broker.namespace.complete(&self.source, tokens);
        Ok(())
    }
}

impl Receiver for Link {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(self.receive_messages(max, wait))
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(self.settle(tokens))
    }

    fn abandon<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            self.arrive().await?;
            self.broker.namespace.close(self.number);
            Ok(())
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A dead process says nothing, and its locks last until they end.
        if !self.broker.process.is_dead() {
            self.broker.namespace.close(self.number);
        }
    }
}
