//! What the connections to a namespace have met: counted, for the operator.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::broker::BrokerStats;

/// Counts of what went otherwise than it should.
#[derive(Debug, Default)]
pub(in crate::broker) struct Met {
    locks_lost: AtomicU64,
    #[cfg_attr(not(feature = "service-bus"), expect(dead_code, reason = "HTTP has no connection to keep"))]
    was_connected: AtomicBool,
    reconnects: AtomicU64,
    throttled: AtomicU64,
}

impl Met {
    pub(in crate::broker) fn locks_lost(&self, count: usize) {
        self.locks_lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A connection was opened.
    #[cfg(feature = "service-bus")]
    pub(in crate::broker) fn connected(&self) {
        if self.was_connected.swap(true, Ordering::Relaxed) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::broker) fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::broker) fn stats(&self) -> BrokerStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BrokerStats::new(read(&self.locks_lost), read(&self.reconnects), read(&self.throttled))
    }
}
