//! The event that is measured: about 200 bytes of JSON, as most are.

use distributed_events::broker::{Delivery, Message};
use distributed_events::{DistributedEvent, EventId};
use serde::{Deserialize, Serialize};

/// An order, without a session: its rows may go side by side.
#[derive(Clone, Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "bench.order-placed", topic = "orders")]
pub(crate) struct OrderPlaced {
    /// Its place among the events of a measurement.
    pub(crate) n: i64,
    /// What it weighs.
    note: String,
}

impl OrderPlaced {
    /// The `n`-th.
    pub(crate) fn new(n: i64) -> Self {
        Self { n, note: "x".repeat(200 - r#"{"n":000000,"note":""}"#.len()) }
    }

    /// So many.
    pub(crate) fn several(count: i64) -> Vec<Self> {
        (0..count).map(Self::new).collect()
    }
}

/// An event as it would come off a broker's wire.
pub(crate) fn delivery(n: u64) -> Delivery {
    let event = OrderPlaced::new(i64::try_from(n).unwrap_or(0));
    let mut message = Message::default();
    message.message_id = Some(EventId::new().to_string());
    message.subject = Some(OrderPlaced::NAME.to_owned());
    message.body = serde_json::to_vec(&event).unwrap_or_default();
    message.content_type = Some("application/json".to_owned());
    message.sequence_number = event.n;
    message.enqueued_at = Some(std::time::SystemTime::now());
    Delivery::new(n, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_weighs_about_200_bytes() {
        for n in [0, 5_000_000] {
            let length = serde_json::to_string(&OrderPlaced::new(n)).unwrap_or_default().len();
            assert!((190..=210).contains(&length), "{length}");
        }
    }
}
