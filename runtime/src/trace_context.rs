//! Where an event stands in a trace: W3C Trace Context, level 1, as it travels in headers.

use crate::chance;
use crate::envelope::{Headers, TRACEPARENT, TRACESTATE};

/// What older Azure clients send and read in the place of `traceparent`.
pub(crate) const DIAGNOSTIC_ID: &str = "Diagnostic-Id";
/// What vendors add beyond this isn't passed on (section 3.3.1.5 asks for no more).
const MAX_STATE: usize = 512;

/// A `traceparent`, and the `tracestate` that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) parent: String,
    pub(crate) state: Option<String>,
}

impl TraceContext {
    /// What a message's headers say.
    pub(crate) fn of(headers: &Headers) -> Option<Self> {
        let well_formed = |parent: &&String| parts(parent).is_some();
        if let Some(parent) = headers.get(TRACEPARENT) {
            return Some(Self { parent: parent.clone(), state: headers.get(TRACESTATE).cloned() });
        }
        let parent = headers.get(DIAGNOSTIC_ID).filter(well_formed)?;
        Some(Self { parent: parent.clone(), state: None })
    }

    /// The root of a new trace.
    pub(crate) fn root() -> Self {
        let random = chance::id().simple().to_string();
        Self { parent: format!("00-{}-{}-01", chance::id().simple(), &random[..16]), state: None }
    }

    /// A child in the same trace, or a root where this is not well-formed (section 3.2).
    pub(crate) fn child(&self) -> Self {
        let Some(Parts { trace, flags, .. }) = parts(&self.parent) else {
            return Self::root();
        };
        let random = chance::id().simple().to_string();
        let parent = format!("00-{trace}-{}-{flags}", &random[..16]);
        let state = self.state.clone().filter(|state| !state.is_empty() && state.len() <= MAX_STATE);
        Self { parent, state }
    }

    /// Puts it into the headers of an event that is to be published.
    pub(crate) fn write(self, headers: &mut Headers) {
        headers.insert(TRACEPARENT.to_owned(), self.parent);
        if let Some(state) = self.state.filter(|state| !state.is_empty() && state.len() <= MAX_STATE) {
            headers.insert(TRACESTATE.to_owned(), state);
        }
    }
}

/// What a well-formed `traceparent` consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) trace: &'a str,
    pub(crate) span: &'a str,
    pub(crate) flags: &'a str,
}

/// Takes a `traceparent` apart; a version to come may have more parts.
pub(crate) fn parts(traceparent: &str) -> Option<Parts<'_>> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    (hex(version, 2) && hex(trace, 32) && !zero(trace) && hex(span, 16) && !zero(span) && hex(flags, 2))
        .then_some(Parts { trace, span, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_child_stays_in_its_trace_and_keeps_what_vendors_said() {
        let parent = TraceContext::of(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "az=1")])).unwrap();
        let child = parent.child();
        let (old, new) = (parts(PARENT).unwrap(), parts(&child.parent).unwrap());
        assert_eq!((old.trace, old.flags), (new.trace, new.flags));
        assert_ne!(old.span, new.span);
        let mut written = Headers::new();
        child.write(&mut written);
        assert_eq!(written[TRACESTATE], "az=1");
    }

    #[test]
    fn older_azure_clients_are_understood_and_other_forms_of_theirs_left_alone() {
        let traced = TraceContext::of(&headers(&[("Diagnostic-Id", PARENT)])).unwrap();
        assert_eq!(traced.parent, PARENT);
        assert_eq!(TraceContext::of(&headers(&[("Diagnostic-Id", "|4bf92f35.1.")])), None);
        let both = headers(&[("Diagnostic-Id", PARENT), (TRACEPARENT, "00-1-2-03")]);
        assert_eq!(TraceContext::of(&both).unwrap().parent, "00-1-2-03", "the standard's own comes first");
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace() {
        let state = Some("az=1".to_owned());
        for wrong in [
            "",
            "00-1-2-03",
            &PARENT.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            let child = TraceContext { parent: wrong.to_owned(), state: state.clone() }.child();
            assert!(parts(&child.parent).is_some() && child.state.is_none(), "{wrong}");
        }
    }
}
