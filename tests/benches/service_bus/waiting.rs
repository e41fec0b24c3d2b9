//! How long a relay waits for its broker, and so how long for its database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use distributed_events::Broker;
use distributed_events::broker::{
    Batch, BatchLimits, Delivery, ReceiveError, Receiver, SendError, Service, Source,
};
use futures_util::future::BoxFuture;

/// Adds up what receiving and settling takes, once the first messages have come.
#[derive(Debug)]
pub struct Waiting {
    inner: Arc<dyn Broker>,
    nanoseconds: Arc<AtomicU64>,
}

impl Waiting {
    pub fn on(inner: Arc<dyn Broker>) -> Self {
        Self { inner, nanoseconds: Arc::default() }
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Relaxed) as f64 / 1e9
    }
}

impl Broker for Waiting {
    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn limits(&self) -> BatchLimits {
        self.inner.limits()
    }

    fn attach(&self, service: Service) {
        self.inner.attach(service);
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        self.inner.send(batch)
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            let receiver = self.inner.receiver(source).await?;
            let nanoseconds = Arc::clone(&self.nanoseconds);
            let timed = |inner| Box::new(Timed { inner, nanoseconds, has_begun: false }) as Box<dyn Receiver>;
            Ok(receiver.map(timed))
        })
    }
}

#[derive(Debug)]
struct Timed {
    inner: Box<dyn Receiver>,
    nanoseconds: Arc<AtomicU64>,
    has_begun: bool,
}

impl Timed {
    fn add(&self, since: Instant) {
        self.nanoseconds.fetch_add(u64::try_from(since.elapsed().as_nanos()).unwrap(), Relaxed);
    }
}

impl Receiver for Timed {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let received = self.inner.receive(max, wait).await;
            // Neither the wait for the first, nor that for more when all have come.
            if self.has_begun && received.as_ref().is_ok_and(|received| !received.is_empty()) {
                self.add(begun);
            }
            self.has_begun = true;
            received
        })
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let completed = self.inner.complete(tokens).await;
            self.add(begun);
            completed
        })
    }

    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        self.inner.abandon(tokens)
    }
}
