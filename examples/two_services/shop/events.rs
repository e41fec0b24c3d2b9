//! What the two services tell each other.

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

/// Opens the bill of an order. Its session is the order, as is that of the two that follow: billing hears of them in
/// this order, and in no other.
#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: i64,
    pub(crate) total_cents: i64,
    pub(crate) card: String,
}

/// The customer thought better of it: this is the total now.
#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-changed", topic = "orders", session = order_id)]
pub(crate) struct OrderChanged {
    pub(crate) order_id: i64,
    pub(crate) total_cents: i64,
}

/// Nothing changes any more: charge what the bill says.
#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-confirmed", topic = "orders", session = order_id)]
pub(crate) struct OrderConfirmed {
    pub(crate) order_id: i64,
}

/// Published with a time before which it is not delivered: ordering reminds itself.
#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.review-due", topic = "reminders")]
pub(crate) struct ReviewDue {
    pub(crate) order_id: i64,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.card-charged", topic = "payments", session = order_id)]
pub(crate) struct CardCharged {
    pub(crate) order_id: i64,
    pub(crate) cents: i64,
}

/// Must not queue behind anything: it has a namespace of its own.
#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.fraud-suspected", topic = "alerts", lane = "critical")]
pub(crate) struct FraudSuspected {
    pub(crate) order_id: i64,
    pub(crate) cents: i64,
}
