//! Traces that go on from one service to the other, where the application has a layer of `tracing-opentelemetry`.

use std::fmt::Display;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::envelope::Headers;
use crate::trace_context::{TraceContext, parts};

/// Makes a span, before it is entered, a child of the one that a message's headers name.
pub(crate) fn continues(span: &Span, headers: &Headers) {
    if let Some(remote) = TraceContext::of(headers).and_then(|context| remote(&context)) {
        // Without a layer there is nothing to be joined.
        let _joined = span.set_parent(Context::new().with_remote_span_context(remote));
    }
}

/// The same with what is known of the caller's trace, unless a span of OpenTelemetry is the caller's already.
pub(crate) fn continues_unless_inside(span: &Span, context: Option<&TraceContext>) {
    if Context::current().span().span_context().is_valid() || current(&Span::current()).is_some() {
        return;
    }
    if let Some(remote) = context.and_then(remote) {
        let _joined = span.set_parent(Context::new().with_remote_span_context(remote));
    }
}

/// Links a span to the one that a message's headers name.
pub(crate) fn link(span: &Span, headers: &Headers, attributes: &[(&'static str, &dyn Display)]) {
    if let Some(remote) = TraceContext::of(headers).and_then(|context| remote(&context)) {
        let attributes = attributes.iter().map(|(name, value)| KeyValue::new(*name, value.to_string()));
        span.add_link_with_attributes(remote, attributes.collect());
    }
}

/// Where a span stands in a trace of OpenTelemetry; where it is filtered out, the span around it.
pub(crate) fn context_of(span: &Span) -> Option<TraceContext> {
    current(span).or_else(|| written(Context::current().span().span_context()))
}

fn current(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() { None } else { written(span.context().span().span_context()) }
}

fn written(context: &SpanContext) -> Option<TraceContext> {
    context.is_valid().then(|| TraceContext {
        parent: format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8()
        ),
        state: Some(context.trace_state().header()),
    })
}

fn remote(context: &TraceContext) -> Option<SpanContext> {
    let parts = parts(&context.parent)?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.flags, 16).ok()?) & TraceFlags::SAMPLED;
    // What vendors added, where it can be read; the trace goes on without.
    let state = context.state.as_deref().and_then(|state| state.parse().ok()).unwrap_or_default();
    Some(SpanContext::new(
        TraceId::from_hex(parts.trace).ok()?,
        SpanId::from_hex(parts.span).ok()?,
        flags,
        true,
        state,
    ))
}
