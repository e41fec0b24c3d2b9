//! Which messages came lately: duplicate detection.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Message, Span, Time};

/// Message ids within the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct History {
    keys: BTreeSet<Arc<str>>,
    order: VecDeque<(Time, Arc<str>)>,
}

impl History {
    /// Whether the message is a duplicate; if it isn't, its next twin will be.
    pub(super) fn is_duplicate(
        &mut self,
        now: Time,
        window: Span,
        partitioned: bool,
        message: &Message,
    ) -> bool {
        self.forget(now, window);
        let Some(id) = message.properties.message_id.as_deref() else {
            return false;
        };
        let key: Arc<str> = match message.properties.partition_key.as_deref() {
            // Neither part contains what separates them.
            Some(partition) if partitioned => format!("{partition}\u{0}{id}").into(),
            _ => id.into(),
        };
        if !self.keys.insert(Arc::clone(&key)) {
            return true;
        }
        self.order.push_back((now, key));
        false
    }

    /// Drops what has left the window.
    pub(super) fn forget(&mut self, now: Time, window: Span) {
        while self.order.front().is_some_and(|(came, _)| *came + window <= now) {
            if let Some((_, key)) = self.order.pop_front() {
                self.keys.remove(&key);
            }
        }
    }
}
