//! The transport alone: what it sends when batches come without end, encoding included.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use distributed_events::broker::{Batch, BatchLimits, ReceiveError, Receiver, SendError, Service, Source};
use distributed_events::{Broker, Envelope, EventId};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// At the first event that a relay gives it, sends many of its kind over the broker inside, and remembers how fast.
#[derive(Debug)]
pub struct Measuring {
    inner: Arc<dyn Broker>,
    topic: String,
    sizes: (usize, usize, usize),
    rate: Mutex<Option<f64>>,
}

impl Measuring {
    /// So many events, in batches of so many, so many of which are under way.
    pub fn new(inner: Arc<dyn Broker>, topic: &str, events: usize, batch: usize, depth: usize) -> Self {
        Self { inner, topic: topic.to_owned(), sizes: (events, batch, depth), rate: Mutex::default() }
    }

    /// Events in a second, once it is known.
    pub fn rate(&self) -> Option<f64> {
        *self.rate.lock().unwrap()
    }

    async fn measure(&self, first: Batch<'_>) -> f64 {
        let (events, batch, depth) = self.sizes;
        let another = || {
            let mut another: Envelope = first.events[0].clone();
            another.id = EventId::new();
            another
        };
        let batches: Vec<Vec<_>> =
            (0..events / batch).map(|_| (0..batch).map(|_| another()).collect()).collect();
        // The first opens the link.
        self.inner.send(Batch::new(first.from, &self.topic, &batches[0])).await.unwrap();
        let begun = Instant::now();
        let mut under_way: FuturesUnordered<BoxFuture<'_, Result<(), SendError>>> = FuturesUnordered::new();
        for events in &batches[1..] {
            if under_way.len() == depth {
                under_way.next().await.unwrap().unwrap();
            }
            under_way.push(self.inner.send(Batch::new(first.from, &self.topic, events)));
        }
        while let Some(sent) = under_way.next().await {
            sent.unwrap();
        }
        (events - batch) as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Broker for Measuring {
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
        Box::pin(async move {
            if self.rate().is_none() {
                let rate = self.measure(batch).await;
                *self.rate.lock().unwrap() = Some(rate);
            }
            Ok(())
        })
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        self.inner.receiver(source)
    }
}
