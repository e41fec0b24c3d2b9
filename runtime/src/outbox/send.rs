//! Sending one planned batch until the outcome of each of its events is known or none can be.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::plan::Planned;
use crate::broker::{Batch, Broker, SendError};
use crate::crash;
use crate::envelope::{Envelope, EventId};
use crate::storage::InboxStore;
use crate::telemetry::spans::{self, Place};
use crate::telemetry::{Telemetry, names};

/// What became of a batch's events.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) topic: String,
    pub(crate) sessions: Vec<String>,
    /// Accepted by the broker.
    pub(crate) sent: Vec<EventId>,
    /// Can never be sent.
    pub(crate) dead: Vec<(EventId, String)>,
    /// Not accepted, to be sent again.
    pub(crate) unsent: Vec<EventId>,
    /// Why some are unsent.
    pub(crate) failure: Option<SendError>,
}

/// Sends a batch, and takes a panic of the broker for its failure.
pub(crate) async fn send(
    broker: &dyn Broker,
    from: &dyn InboxStore,
    planned: Planned,
    lane: &str,
    telemetry: &Telemetry,
) -> Outcome {
    let unknown = Outcome {
        topic: planned.topic.clone(),
        sessions: planned.sessions(),
        unsent: ids(&planned.events).collect(),
        failure: Some(SendError::Unavailable { reason: "the broker panicked".to_owned(), retry_after: None }),
        ..Outcome::default()
    };
    AssertUnwindSafe(send_parts(broker, from, planned, lane, telemetry))
        .catch_unwind()
        .await
        .unwrap_or(unknown)
}

/// Sends a batch; splits it where it is too big, and sends on without an event that can never be sent. Parts go one
/// after the other, so that a session keeps its order.
async fn send_parts(
    broker: &dyn Broker,
    from: &dyn InboxStore,
    planned: Planned,
    lane: &str,
    telemetry: &Telemetry,
) -> Outcome {
    let mut outcome =
        Outcome { sessions: planned.sessions(), topic: planned.topic.clone(), ..Outcome::default() };
    let mut parts = vec![planned.events];
    while let Some(mut events) = parts.pop() {
        if outcome.failure.is_some() {
            outcome.unsent.extend(ids(&events));
            continue;
        }
        crash::point("relay.before-send");
        let answer = observed(broker, Batch::new(from, &planned.topic, &events), lane, telemetry).await;
        crash::point("relay.after-send");
        match answer {
            Ok(()) => outcome.sent.extend(ids(&events)),
            Err(SendError::BatchTooBig(reason)) => match events.len() {
                0 => {}
                1 => outcome.dead.extend(ids(&events).map(|id| (id, reason.clone()))),
                length => {
                    let second = events.split_off(length / 2);
                    parts.push(second);
                    parts.push(events);
                }
            },
            Err(SendError::Event { id, reason }) if events.iter().any(|event| event.id == id) => {
                events.retain(|event| event.id != id);
                outcome.dead.push((id, reason));
                if !events.is_empty() {
                    parts.push(events);
                }
            }
            Err(failure) => {
                outcome.unsent.extend(ids(&events));
                outcome.failure = Some(failure);
            }
        }
    }
    outcome
}

/// Sends, and tells how that went.
async fn observed(
    broker: &dyn Broker,
    batch: Batch<'_>,
    lane: &str,
    telemetry: &Telemetry,
) -> Result<(), SendError> {
    let place =
        Place { system: broker.system(), server: broker.server(), topic: batch.topic, subscription: None };
    let (span, begun) = (spans::send(place, batch.events), Instant::now());
    let answer = broker.send(batch).instrument(span.clone()).await;
    let failed = answer.as_ref().err().map(|error| (error.kind(), error));
    telemetry.transferred(names::SEND, place, begun.elapsed(), failed.map(|(kind, _)| kind));
    match failed {
        None => telemetry.accepted(place, lane, batch.events),
        Some((kind, error)) => spans::failed(&span, kind, error),
    }
    answer
}

fn ids(events: &[Envelope]) -> impl Iterator<Item = EventId> {
    events.iter().map(|event| event.id)
}
