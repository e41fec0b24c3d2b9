//! Brokers that cost nothing, or exactly what they are told to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use distributed_events::Broker;
use distributed_events::broker::{
    Batch, BatchLimits, Delivery, ReceiveError, Receiver, SendError, Service, Source,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What one batch may hold: never what decides.
const LIMITS: BatchLimits = BatchLimits::new(4 << 20, 10_000);

/// Accepts every batch after a time, and keeps nothing but the count. Clones are one broker.
#[derive(Clone, Debug)]
pub(crate) struct Null {
    latency: Duration,
    shared: Arc<Sent>,
}

#[derive(Debug)]
struct Sent {
    events: watch::Sender<u64>,
    batches: AtomicU64,
    /// What the batches took together: a timer is late by up to a millisecond.
    nanoseconds: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Null {
    /// One that takes so long for each batch.
    pub(crate) fn new(latency: Duration) -> Self {
        let shared = Sent {
            events: watch::Sender::new(0),
            batches: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            last: Mutex::new(None),
        };
        Self { latency, shared: Arc::new(shared) }
    }

    /// Waits until it has accepted so many events.
    pub(crate) async fn has(&self, events: u64) {
        let mut seen = self.shared.events.subscribe();
        // The sender lives as long as this value.
        let _closed = seen.wait_for(|count| *count >= events).await;
    }

    /// How many it has accepted.
    pub(crate) fn events(&self) -> u64 {
        *self.shared.events.borrow()
    }

    /// Seconds that a batch took on average.
    pub(crate) fn seconds_a_batch(&self) -> f64 {
        let batches = self.shared.batches.load(Relaxed).max(1);
        self.shared.nanoseconds.load(Relaxed) as f64 / 1e9 / batches as f64
    }

    /// When the last batch came.
    pub(crate) fn last(&self) -> Option<Instant> {
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Null {
    fn identity(&self) -> String {
        "null".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn attach(&self, _: Service) {}

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        let came = Instant::now();
        let count = batch.events.len() as u64;
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
        Box::pin(async move {
            if !self.latency.is_zero() {
                tokio::time::sleep(self.latency).await;
            }
            let nanoseconds = u64::try_from(came.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.shared.nanoseconds.fetch_add(nanoseconds, Relaxed);
            self.shared.batches.fetch_add(1, Relaxed);
            self.shared.events.send_modify(|events| *events += count);
            Ok(())
        })
    }

    fn receiver<'a>(
        &'a self,
        _: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Has messages that are ready, hands them out at once, and notes when the first was asked for and the last settled.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    messages: Arc<Mutex<VecDeque<Delivery>>>,
    begun: Arc<Mutex<Option<Instant>>>,
    left: watch::Sender<usize>,
}

impl Ready {
    /// One with these messages.
    pub(crate) fn new(messages: VecDeque<Delivery>) -> Self {
        let left = watch::Sender::new(messages.len());
        Self { messages: Arc::new(Mutex::new(messages)), begun: Arc::default(), left }
    }

    /// Waits until all are settled; tells the seconds since the first was asked for.
    pub(crate) async fn settled(&self) -> f64 {
        let mut left = self.left.subscribe();
        // The sender lives as long as this value.
        let _closed = left.wait_for(|left| *left == 0).await;
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.map_or(f64::NAN, |begun| begun.elapsed().as_secs_f64())
    }
}

impl Broker for Ready {
    fn identity(&self) -> String {
        "ready".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn attach(&self, _: Service) {}

    fn send<'a>(&'a self, _: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn receiver<'a>(
        &'a self,
        _: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        let receiver: Box<dyn Receiver> = Box::new(Handing(self.clone()));
        Box::pin(std::future::ready(Ok(Some(receiver))))
    }
}

#[derive(Debug)]
struct Handing(Ready);

impl Receiver for Handing {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        let handed: Vec<_> = {
            self.0.begun.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
            let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let count = max.min(messages.len());
            messages.drain(..count).collect()
        };
        Box::pin(async move {
            if handed.is_empty() {
                tokio::time::sleep(wait).await;
            }
            Ok(handed)
        })
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        self.0.left.send_modify(|left| *left = left.saturating_sub(tokens.len()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn abandon<'a>(&'a mut self, _: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
