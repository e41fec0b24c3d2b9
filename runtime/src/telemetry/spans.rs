//! The spans, each made in one place. They cost next to nothing while nobody listens: no field is looked at before.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Span;
use tracing::field::{Empty, display};

use super::metrics::Attributes;
use super::{names, otel};
use crate::envelope::{Envelope, EventId, Headers};

/// The system of what stands in our own tables, where no broker is known.
pub(crate) const OWN_SYSTEM: &str = "distributed_events";

/// What is the same on every span of its kind: nobody but OpenTelemetry wants to see it, and logs are shorter without.
const fn fixed(value: &'static str) -> Option<&'static str> {
    if cfg!(feature = "otel") { Some(value) } else { None }
}

/// Names a span after what is done to what: "send orders".
fn named(span: &Span, operation: &str, destination: &str) {
    if cfg!(feature = "otel") && !span.is_disabled() {
        span.record(names::OTEL_NAME, display(format_args!("{operation} {destination}")));
    }
}

/// An event is written to the outbox. Which broker will carry it is not known there.
pub(crate) fn publish(event: &Envelope) -> Span {
    let span = tracing::info_span!(
        target: names::TARGET,
        names::PUBLISH,
        { names::OTEL_NAME } = Empty,
        { names::OTEL_KIND } = fixed("producer"),
        { names::OTEL_STATUS } = Empty,
        { names::OTEL_STATUS_DESCRIPTION } = Empty,
        { names::SYSTEM } = fixed(OWN_SYSTEM),
        { names::OPERATION_NAME } = fixed(names::PUBLISH),
        { names::OPERATION_TYPE } = fixed("create"),
        { names::DESTINATION } = event.topic.as_deref(),
        { names::MESSAGE_ID } = %event.id,
        { names::CONVERSATION_ID } = event.correlation_id.as_deref(),
        { names::EVENT } = event.name.as_str(),
        { names::SESSION } = event.session_id.as_deref(),
        { names::LANE } = event.lane.as_str(),
        { names::ERROR_TYPE } = Empty,
    );
    named(&span, names::PUBLISH, event.topic.as_deref().unwrap_or(&event.name));
    span
}

/// Where messages go to, or come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) system: &'static str,
    pub(crate) server: Option<&'a str>,
    pub(crate) topic: &'a str,
    pub(crate) subscription: Option<&'a str>,
}

impl Place<'_> {
    /// What metrics say of an operation there.
    pub(super) fn attributes(&self, operation: &'static str) -> Attributes {
        Attributes::new(&[
            (names::SYSTEM, self.system),
            (names::OPERATION_NAME, operation),
            (names::DESTINATION, self.topic),
            (names::SUBSCRIPTION, self.subscription.unwrap_or_default()),
        ])
    }
}

// A span's name is a part of the place in the code where it is made.
macro_rules! transfer {
    ($operation:expr, $parent:expr, $place:expr, $messages:expr, $($more:tt)*) => {{
        let place: Place<'_> = $place;
        let span = tracing::info_span!(
            target: names::TARGET,
            parent: $parent,
            $operation,
            { names::OTEL_NAME } = Empty,
            { names::OTEL_KIND } = fixed("client"),
            { names::OTEL_STATUS } = Empty,
            { names::OTEL_STATUS_DESCRIPTION } = Empty,
            { names::SYSTEM } = fixed(place.system),
            { names::OPERATION_NAME } = fixed($operation),
            { names::OPERATION_TYPE } = fixed($operation),
            { names::DESTINATION } = place.topic,
            { names::SUBSCRIPTION } = place.subscription,
            { names::SERVER } = place.server,
            { names::MESSAGE_COUNT } = i64::try_from($messages).unwrap_or(i64::MAX),
            { names::ERROR_TYPE } = Empty,
            $($more)*
        );
        named(&span, $operation, place.topic);
        span
    }};
}

/// A batch goes to the broker; linked to the spans that published its events.
pub(crate) fn send(place: Place<'_>, events: &[Envelope]) -> Span {
    let span = transfer!(names::SEND, None, place, events.len(),);
    if !span.is_disabled() {
        for event in events {
            otel::link(&span, &event.headers, &[(names::MESSAGE_ID, &event.id)]);
        }
    }
    span
}

/// A message that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) enqueued_at: Option<SystemTime>,
    pub(crate) delivery_count: u32,
    pub(crate) headers: &'a Headers,
}

/// Messages that have come are stored; linked to the spans that published their events.
pub(crate) fn receive<'a>(place: Place<'_>, arrived: impl ExactSizeIterator<Item = Arrived<'a>>) -> Span {
    let span = transfer!(names::RECEIVE, None, place, arrived.len(),);
    if !span.is_disabled() {
        for Arrived { id, enqueued_at, delivery_count, headers } in arrived {
            let enqueued = enqueued_at.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let attributes: [(&str, &dyn fmt::Display); 3] = [
                (names::MESSAGE_ID, &id.unwrap_or_default()),
                (names::ENQUEUED_TIME, &enqueued.map_or(0, |since| since.as_secs())),
                (names::DELIVERY_COUNT, &delivery_count),
            ];
            otel::link(&span, headers, &attributes);
        }
    }
    span
}

/// The broker is told what has become of messages that it has delivered.
pub(crate) fn settle(received: &Span, place: Place<'_>, messages: usize, disposition: &'static str) -> Span {
    transfer!(names::SETTLE, received, place, messages, { names::DISPOSITION } = disposition,)
}

/// An event that is handled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handled<'a> {
    pub(crate) system: &'static str,
    pub(crate) subscription: &'a str,
    pub(crate) topic: Option<&'a str>,
    pub(crate) id: EventId,
    pub(crate) name: &'a str,
    pub(crate) session_id: Option<&'a str>,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) attempt: u32,
    pub(crate) headers: &'a Headers,
}

/// The handlers of an event run: a child of the span that published it.
pub(crate) fn process(event: &Handled<'_>) -> Span {
    let span = tracing::info_span!(
        target: names::TARGET,
        parent: None,
        names::PROCESS,
        { names::OTEL_NAME } = Empty,
        { names::OTEL_KIND } = fixed("consumer"),
        { names::OTEL_STATUS } = Empty,
        { names::OTEL_STATUS_DESCRIPTION } = Empty,
        { names::SYSTEM } = fixed(event.system),
        { names::OPERATION_NAME } = fixed(names::PROCESS),
        { names::OPERATION_TYPE } = fixed(names::PROCESS),
        { names::DESTINATION } = event.topic,
        { names::SUBSCRIPTION } = event.subscription,
        { names::MESSAGE_ID } = %event.id,
        { names::CONVERSATION_ID } = event.correlation_id,
        { names::EVENT } = event.name,
        { names::SESSION } = event.session_id,
        { names::ATTEMPT } = i64::from(event.attempt),
        { names::OUTCOME } = Empty,
        { names::ERROR_TYPE } = Empty,
    );
    if !span.is_disabled() {
        otel::continues(&span, event.headers);
        named(&span, names::PROCESS, event.topic.unwrap_or(event.subscription));
    }
    span
}

/// Says that what a span stands for has failed, and why.
pub(crate) fn failed(span: &Span, kind: &str, reason: impl fmt::Display) {
    if span.is_disabled() {
        return;
    }
    span.record(names::ERROR_TYPE, kind);
    if cfg!(feature = "otel") {
        span.record(names::OTEL_STATUS, "ERROR");
        span.record(names::OTEL_STATUS_DESCRIPTION, display(reason));
    }
}
