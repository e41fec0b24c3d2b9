//! What a bus has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// An event's way, as the library's counters see it; read with [`EventBus::stats`](crate::EventBus::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that brokers accepted from this bus's outbox.
    pub sent: u64,
    /// Events that handlers of this bus finished.
    pub processed: u64,
    /// Attempts of handlers that failed and are tried again.
    pub retried: u64,
    /// Events that ended dead in this bus's loops.
    pub dead: u64,
    /// Messages that came from brokers into this bus's inbox.
    pub received: u64,
    /// Received events that were there already.
    pub duplicates: u64,
    /// Leases that went to other instances.
    pub leases_lost: u64,
    /// The brokers' locks on messages and sessions that ended before they were settled: the messages come again. This
    /// and what follows the brokers count themselves, for all buses that share one.
    pub locks_lost: u64,
    /// Connections to brokers that were opened in the place of one that had ended.
    pub reconnects: u64,
    /// Answers of brokers that they are too busy.
    pub throttled: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    processed: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    received: AtomicU64,
    duplicates: AtomicU64,
    leases_lost: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn processed(&self, count: u64) {
        self.processed.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dead(&self, count: u64) {
        self.dead.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn received(&self, count: u64, duplicates: u64) {
        self.received.fetch_add(count, Ordering::Relaxed);
        self.duplicates.fetch_add(duplicates, Ordering::Relaxed);
    }

    pub(super) fn leases_lost(&self, count: u64) {
        self.leases_lost.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sent: read(&self.sent),
            processed: read(&self.processed),
            retried: read(&self.retried),
            dead: read(&self.dead),
            received: read(&self.received),
            duplicates: read(&self.duplicates),
            leases_lost: read(&self.leases_lost),
            ..Stats::default()
        }
    }
}
