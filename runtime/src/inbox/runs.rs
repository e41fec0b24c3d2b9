//! The runs of handlers in one transaction, as traces and metrics show them.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::Span;

use super::guarded::Ran;
use crate::storage::InboxRow;
use crate::telemetry::metrics::Attributes;
use crate::telemetry::spans::{self, Handled};
use crate::telemetry::{Telemetry, names, since};

/// Whose handlers run: what all of a processor's runs have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner<'a> {
    pub(super) telemetry: &'a Telemetry,
    pub(super) system: &'static str,
    pub(super) subscription: &'a str,
}

/// The runs of one transaction. A run's span is open until the outcome of its event is recorded.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    runner: Runner<'a>,
    runs: Vec<Run<'a>>,
}

#[derive(Debug)]
struct Run<'a> {
    row: &'a InboxRow,
    span: Span,
    begun: Instant,
    took: Option<Duration>,
}

impl<'a> Runner<'a> {
    pub(super) const fn runs(self) -> Runs<'a> {
        Runs { runner: self, runs: Vec::new() }
    }
}

impl<'a> Runs<'a> {
    /// The handlers of a row's event begin; returns the span that is theirs.
    pub(super) fn begin(&mut self, row: &'a InboxRow) -> Span {
        let event = &row.event;
        let span = spans::process(&Handled {
            system: self.runner.system,
            subscription: self.runner.subscription,
            topic: event.topic.as_deref(),
            id: event.id,
            name: &event.name,
            session_id: event.session_id.as_deref(),
            correlation_id: event.correlation_id.as_deref(),
            attempt: row.attempts + 1,
            headers: &event.headers,
        });
        self.runs.push(Run { row, span: span.clone(), begun: Instant::now(), took: None });
        span
    }

    /// They have returned.
    pub(super) fn returned(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.took = Some(run.begun.elapsed());
        }
    }

    /// The span of a single run, for what is told of it; of a batch there is none.
    pub(super) fn span(&self) -> Span {
        match self.runs.as_slice() {
            [run] => run.span.clone(),
            _ => Span::none(),
        }
    }

    /// Tells how the transaction went.
    pub(super) fn ran(&self, ran: &Ran) {
        let failed: Option<(&'static str, String)> = match ran {
            Ran::Failed(error) if error.is_timeout() => Some(("timeout", error.text())),
            Ran::Failed(error) => Some(("handler", error.text())),
            Ran::Trouble(reason) => Some(("database", reason.clone())),
            Ran::Ended(reason) => Some(("transaction_ended", reason.clone())),
            Ran::Committed | Ran::Stale | Ran::Held => None,
        };
        let now = SystemTime::now();
        for Run { row, span, begun, took } in &self.runs {
            let took = took.unwrap_or_else(|| begun.elapsed()).as_secs_f64();
            let attributes = self.attributes(row).failed(failed.as_ref().map(|(kind, _)| *kind));
            self.runner.telemetry.metrics.record(&names::PROCESS_DURATION, took, &attributes);
            if let Some((kind, reason)) = &failed {
                spans::failed(span, kind, reason);
            }
            let published_at = row.event.id.made_at().or(row.event.created_at);
            if let (Ran::Committed, Some(published_at)) = (ran, published_at) {
                let latency = since(published_at, now);
                self.runner.telemetry.metrics.record(
                    &names::END_TO_END_LATENCY,
                    latency,
                    &self.of_event(row, &[]),
                );
            }
        }
    }

    /// Says what becomes of the events.
    pub(super) fn outcome(&self, outcome: &'static str) {
        for Run { row, span, .. } in &self.runs {
            span.record(names::OUTCOME, outcome);
            let attributes = self.of_event(row, &[(names::OUTCOME, outcome)]);
            self.runner.telemetry.metrics.count(&names::ATTEMPTS, 1, &attributes);
        }
    }

    fn attributes(&self, row: &InboxRow) -> Attributes {
        let topic = row.event.topic.as_deref().unwrap_or_default();
        let more = [
            (names::SYSTEM, self.runner.system),
            (names::OPERATION_NAME, names::PROCESS),
            (names::DESTINATION, topic),
        ];
        self.of_event(row, &more)
    }

    fn of_event(&self, row: &InboxRow, more: &[(&'static str, &str)]) -> Attributes {
        let own = [(names::SUBSCRIPTION, self.runner.subscription), (names::EVENT, row.event.name.as_str())];
        Attributes::new(&[&own, more].concat())
    }
}

/// The handlers' effects are committed.
pub(super) const PROCESSED: &str = "processed";
/// Another attempt follows.
pub(super) const RETRIED: &str = "retried";
/// None does.
pub(super) const DEAD: &str = "dead";
/// The database was in trouble, which counts as no attempt.
pub(super) const INTERRUPTED: &str = "interrupted";
