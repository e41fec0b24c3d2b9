//! What surrounds an event while it is handled: its context, and the correlation that follow-up events inherit.

use std::future::Future;
use std::time::SystemTime;

use crate::chance;
use crate::envelope::{EventId, Headers, MAX_NAME};
use crate::trace_context::TraceContext;

tokio::task_local! {
    static CURRENT: Correlation;
}

/// The thread that ties the events of one business flow together, across services.
///
/// `publish` reads the current one. Inside a handler it is set by the processor; elsewhere set it with [`scope`](Self::scope),
/// for example from an HTTP request's header. `tokio::spawn` starts a task without it: wrap the spawned future in a scope.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use distributed_events::Correlation;
///
/// let request = Correlation::new("order-4711");
/// request.clone().scope(async {
///     let here = Correlation::current().unwrap();
///     assert_eq!(here.correlation_id(), "order-4711");
///     tokio::spawn(here.scope(async { assert!(Correlation::current().is_some()) })).await.unwrap();
/// }).await;
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlation {
    correlation_id: String,
    causation_id: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Correlation {
    /// A correlation with an id of the caller's.
    #[must_use]
    pub fn new(correlation_id: impl Into<String>) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            causation_id: None,
            traceparent: None,
            tracestate: None,
        }
    }

    /// A correlation with a new random id.
    #[must_use]
    pub fn random() -> Self {
        Self::new(chance::id().to_string())
    }

    /// The same, with the id of what caused the events to come.
    #[must_use]
    pub fn caused_by(mut self, causation_id: impl Into<String>) -> Self {
        self.causation_id = Some(causation_id.into());
        self
    }

    /// The same, inside a W3C trace (`traceparent` header, Trace Context level 1).
    #[must_use]
    pub fn in_trace(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The same with what tracing systems have added to the trace (`tracestate` header).
    #[must_use]
    pub fn with_trace_state(mut self, tracestate: impl Into<String>) -> Self {
        self.tracestate = Some(tracestate.into());
        self
    }

    /// The correlation of the running task, if one is in scope.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs a future with this correlation as the current one.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// The id that all events of the flow share.
    #[must_use]
    pub fn correlation_id(&self) -> &str {
        &self.correlation_id
    }

    /// The id of the event being handled, if one is.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.causation_id.as_deref()
    }

    /// The W3C trace context, if one is known.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// What tracing systems have added to it, if anything.
    #[must_use]
    pub fn trace_state(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Where it stands in a trace, if that is known.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        let (parent, state) = (self.traceparent.clone()?, self.tracestate.clone());
        Some(TraceContext { parent, state })
    }
}

/// What a handler can know about the event it is given, beside the event itself.
///
/// Handlers take it as `&EventContext`. A unit test makes one with [`EventContext::new`].
///
/// ```
/// use distributed_events::{EventContext, EventId};
///
/// let context = EventContext::new(EventId::new(), "billing").with_attempt(3);
/// assert_eq!(context.attempt(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct EventContext {
    pub(crate) id: EventId,
    pub(crate) subscription: String,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) session_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) causation_id: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) headers: Headers,
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) received_at: SystemTime,
}

impl EventContext {
    /// A context for a first attempt, with nothing but an id and a subscription.
    #[must_use]
    pub fn new(id: EventId, subscription: impl Into<String>) -> Self {
        Self {
            id,
            subscription: subscription.into(),
            name: String::new(),
            version: 1,
            session_id: None,
            correlation_id: None,
            causation_id: None,
            attempt: 1,
            headers: Headers::new(),
            created_at: None,
            received_at: SystemTime::now(),
        }
    }

    /// The same at another attempt; the first is 1.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The same with another correlation id.
    #[must_use]
    pub fn with_correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The same with a session.
    #[must_use]
    pub fn with_session_id(mut self, session_id: impl Into<String>) -> Self {
        self.session_id = Some(session_id.into());
        self
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The subscription it is handled for.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The name it was received under, which may be an alias.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version it was received with, before any upcast.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The session that keeps its order, if any.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The id that all events of the flow share.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// The id of the event whose handler published this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.causation_id.as_deref()
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// All headers, the trace context among them.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// One header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// When it was published, by the publisher's clock, where the message says so.
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        self.created_at
    }

    /// When it reached the inbox, by this service's database.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// The correlation under which the event's handlers run. Another system's correlation id that could not travel on
    /// with an event of ours is left behind, or no handler of it could publish.
    pub(crate) fn correlation(&self) -> Correlation {
        let trace = TraceContext::of(&self.headers);
        let (traceparent, tracestate) = trace.map_or((None, None), |it| (Some(it.parent), it.state));
        let travels = |id: &&String| (1..=MAX_NAME).contains(&id.chars().count()) && !id.contains('\0');
        Correlation {
            correlation_id: self
                .correlation_id
                .as_ref()
                .filter(travels)
                .cloned()
                .unwrap_or_else(|| self.id.to_string()),
            causation_id: Some(self.id.to_string()),
            traceparent,
            tracestate,
        }
    }
}
