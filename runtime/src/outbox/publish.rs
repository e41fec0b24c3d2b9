//! Writing envelopes to the outbox table in the caller's transaction, refusing what can't travel.

use std::time::{Duration, SystemTime};

use sqlx::Transaction;
use tracing::{Instrument, Span};

use crate::context::Correlation;
use crate::envelope::{Envelope, EventId, Headers, MAX_NAME, MAX_SESSION_ID, TRACEPARENT};
use crate::storage::{Delivery, NewEvent, Storage, StorageError};
use crate::telemetry::{otel, spans};
use crate::trace_context::TraceContext;
use crate::{crash, wake};

/// The longest value of one header, in bytes (Azure Service Bus quotas: 32 KB a property).
pub const MAX_HEADER: usize = 32 * 1024;

/// All headers of an event together, in bytes (Azure Service Bus quotas: 64 KB, less the library's own).
pub const MAX_HEADERS: usize = 60 * 1024;

/// Headers that receivers take for something else, in any case: what a transport carries beside the headers, and why a
/// broker has dead-lettered a message. Events with them would arrive without them, or dead.
const RESERVED_HEADERS: [&str; 5] =
    ["causationid", "DeadLetterErrorDescription", "DeadLetterReason", "eventheaders", "eventversion"];

/// The longest delay or time to live: what every database's timestamps and every broker can hold.
const MAX_DELAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What can be said about one publish beside the event itself.
///
/// ```
/// use distributed_events::PublishOptions;
/// use std::time::Duration;
///
/// let reminder = PublishOptions::new().delay(Duration::from_secs(3600)).header("tenant", "acme");
/// ```
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    id: Option<EventId>,
    delivery: Delivery,
    ttl: Option<Duration>,
    correlation_id: Option<String>,
    headers: Headers,
}

impl PublishOptions {
    /// No options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Deliver so much later, at the earliest. A delayed event takes its place in its session when it becomes due.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delivery = Delivery::In(delay);
        self
    }

    /// Deliver at this time at the earliest, by the clock of the publisher's database.
    #[must_use]
    pub const fn deliver_at(mut self, time: SystemTime) -> Self {
        self.delivery = Delivery::At(time);
        self
    }

    /// Start no handler on it later than this after its publish; it then ends `dead`, reason `expired`.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// A correlation id, instead of the current one.
    #[must_use]
    pub fn correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// One more header: text that travels with the event and reaches the handler's `EventContext`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// An id of the caller's own. Publishing again with the same id is refused as a duplicate, which makes a publish
    /// idempotent whose commit had an unknown outcome.
    #[must_use]
    pub const fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }
}

/// Why an event was not published. Nothing of it is in the outbox; roll the transaction back, or go on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Its `Serialize` failed: mend the type, for example a map whose keys are not text.
    #[error("event {event} can't be encoded as JSON: {reason}")]
    Encode {
        /// The event's name.
        event: &'static str,
        /// What serde says.
        reason: String,
    },
    /// It is too big to travel: publish a reference to the data, or raise `max_size` where the broker takes more.
    #[error(
        "event {event} is {size} bytes with its headers, and the limit is {limit}: publish a reference to the data, or raise `max_size`"
    )]
    TooBig {
        /// The event's name.
        event: String,
        /// Its encoded size with headers, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Its session id, name, topic, lane or a header can't travel, for the given reason.
    #[error("event {event} can't travel: {reason}")]
    Refused {
        /// The event's name.
        event: String,
        /// What is wrong, with the figure and the limit.
        reason: String,
    },
    /// An event with this id is in the outbox already: this publish is a repetition of one that was committed.
    #[error("an event with the id {id} was published already")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// The database refused.
    #[error("the event could not be written to the outbox: {0}")]
    Storage(#[source] StorageError),
}

/// An event that can travel, and the span under which it is written.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) event: NewEvent,
    span: Span,
}

/// Completes an envelope from the options and the current correlation, and checks that it can travel.
pub(crate) fn complete(
    mut envelope: Envelope,
    options: PublishOptions,
    max_size: usize,
) -> Result<Prepared, PublishError> {
    let current = Correlation::current();
    envelope.correlation_id = options
        .correlation_id
        .or_else(|| current.as_ref().map(|correlation| correlation.correlation_id().to_owned()));
    let correlation = current.unwrap_or_else(Correlation::random);
    envelope.correlation_id.get_or_insert_with(|| correlation.correlation_id().to_owned());
    envelope.causation_id = correlation.causation_id().map(str::to_owned);
    envelope.headers = options.headers;
    let is_fresh = options.id.is_none();
    if let Some(id) = options.id {
        envelope.id = id;
    }
    let span = spans::publish(&envelope);
    if !envelope.headers.contains_key(TRACEPARENT) {
        let trace = correlation.trace();
        otel::continues_unless_inside(&span, trace.as_ref());
        let made = || trace.as_ref().map_or_else(TraceContext::root, TraceContext::child);
        otel::context_of(&span).unwrap_or_else(made).write(&mut envelope.headers);
    }
    refuse(&envelope, options.delivery, options.ttl)
        .map_or(Ok(()), |reason| Err(PublishError::Refused { event: envelope.name.clone(), reason }))?;
    let size = envelope.encoded_size();
    if size > max_size {
        return Err(PublishError::TooBig { event: envelope.name, size, limit: max_size });
    }
    let event = NewEvent { deliver: options.delivery, ttl: options.ttl, is_fresh, ..NewEvent::new(envelope) };
    Ok(Prepared { event, span })
}

/// What keeps an envelope from travelling, if anything.
fn refuse(envelope: &Envelope, delivery: Delivery, ttl: Option<Duration>) -> Option<String> {
    let named = [
        ("event name", Some(envelope.name.as_str())),
        ("topic", envelope.topic.as_deref()),
        ("lane", Some(envelope.lane.as_str())),
        ("correlation id", envelope.correlation_id.as_deref()),
        ("causation id", envelope.causation_id.as_deref()),
    ];
    named
        .into_iter()
        .filter_map(|(what, text)| text.and_then(|text| bad_text(what, text, MAX_NAME)))
        .next()
        .or_else(|| envelope.session_id.as_deref().and_then(bad_session))
        .or_else(|| bad_headers(&envelope.headers))
        .or_else(|| bad_times(delivery, ttl))
}

fn bad_text(what: &str, text: &str, max: usize) -> Option<String> {
    let length = text.chars().count();
    if length == 0 {
        return Some(format!("its {what} is empty"));
    }
    if length > max {
        return Some(format!("its {what} has {length} characters, and the limit is {max}"));
    }
    text.contains('\0').then(|| format!("its {what} contains a NUL character, which databases refuse"))
}

fn bad_session(session: &str) -> Option<String> {
    bad_text("session id", session, MAX_SESSION_ID).or_else(|| {
        is_reserved_session(session).then(|| {
            format!("its session id `{session}` is reserved (`~00` to `~31`) for events without a session")
        })
    })
}

/// Whether a session id is one of the pseudo-sessions `~00` to `~31` (rule 20).
#[must_use]
pub fn is_reserved_session(session: &str) -> bool {
    session.strip_prefix('~').is_some_and(|number| {
        number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && number.parse::<u8>().is_ok_and(|number| number < 32)
    })
}

fn bad_headers(headers: &Headers) -> Option<String> {
    let mut total = 0;
    for (name, value) in headers {
        if let Some(problem) = bad_text("header name", name, MAX_NAME) {
            return Some(problem);
        }
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(format!(
                "its header name `{}` may hold visible ASCII characters only",
                name.escape_debug()
            ));
        }
        if RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            return Some(format!(
                "its header name `{name}` is reserved: receivers take it for something else"
            ));
        }
        if value.len() > MAX_HEADER {
            return Some(format!(
                "its header `{name}` is {} bytes, and the limit is {MAX_HEADER}",
                value.len()
            ));
        }
        if value.contains('\0') {
            return Some(format!("its header `{name}` contains a NUL character, which databases refuse"));
        }
        total += name.len() + value.len();
    }
    (total > MAX_HEADERS)
        .then(|| format!("its headers are {total} bytes together, and the limit is {MAX_HEADERS}"))
}

fn bad_times(delivery: Delivery, ttl: Option<Duration>) -> Option<String> {
    if let Delivery::In(delay) = delivery
        && delay > MAX_DELAY
    {
        return Some(format!("its delay of {} s is longer than ten years", delay.as_secs()));
    }
    if let Delivery::At(time) = delivery
        && time.duration_since(SystemTime::now()).is_ok_and(|ahead| ahead > MAX_DELAY)
    {
        return Some("its time of delivery is more than ten years ahead".to_owned());
    }
    match ttl {
        Some(ttl) if ttl.is_zero() => {
            Some("its time to live is zero, so it could never be handled".to_owned())
        }
        Some(ttl) if ttl > MAX_DELAY => {
            Some(format!("its time to live of {} s is longer than ten years", ttl.as_secs()))
        }
        _ => None,
    }
}

/// Writes one event in the caller's transaction and leaves a hint for the relay; returns its id.
pub(crate) async fn write<DB: Storage>(
    tx: &mut Transaction<'_, DB>,
    prepared: Prepared,
) -> Result<EventId, PublishError> {
    let Prepared { event, span } = prepared;
    let id = event.envelope.id;
    let written = insert(tx, &[event]).instrument(span.clone()).await;
    tell(&span, &written);
    written.map(|()| id)
}

/// Writes several with one statement; returns their ids.
pub(crate) async fn write_all<DB: Storage>(
    tx: &mut Transaction<'_, DB>,
    prepared: Vec<Prepared>,
) -> Result<Vec<EventId>, PublishError> {
    if prepared.is_empty() {
        return Ok(Vec::new());
    }
    let (events, spans): (Vec<_>, Vec<_>) = prepared.into_iter().map(|it| (it.event, it.span)).unzip();
    let written = insert(tx, &events).await;
    for span in &spans {
        tell(span, &written);
    }
    written.map(|()| events.iter().map(|event| event.envelope.id).collect())
}

fn tell(span: &Span, written: &Result<(), PublishError>) {
    if let Err(error) = written {
        spans::failed(
            span,
            if matches!(error, PublishError::Duplicate { .. }) { "duplicate" } else { "storage" },
            error,
        );
    }
}

async fn insert<DB: Storage>(tx: &mut Transaction<'_, DB>, events: &[NewEvent]) -> Result<(), PublishError> {
    DB::insert_outbox(&mut **tx, events).await.map_err(|error| match error {
        StorageError::DuplicateId { id } => PublishError::Duplicate { id },
        other => PublishError::Storage(other),
    })?;
    crash::point("publish.written");
    wake::published();
    Ok(())
}

#[cfg(test)]
pub(crate) mod properties;
