//! What can be said about rows.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use distributed_events::EventId;

use crate::when::{When, delay, span};

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Lists events in one state.
    List(List),
    /// Shows an event with everything that is known of it.
    Show(Show),
    /// Makes dead events pending again: their relay sends them once more.
    Requeue(Requeue),
    /// Gives dead events up: their rows are deleted, and nobody will ever receive them.
    Discard(Change),
    /// Sends again what was sent in a span of time, for a broker or a receiver that has lost its memory.
    Resend(Resend),
}

#[derive(Debug, Subcommand)]
pub(crate) enum InboxCommand {
    /// Lists events in one state.
    List(List),
    /// Shows an event with everything that is known of it, as each subscription has it.
    Show(Show),
    /// Makes dead events pending again: their handlers run once more.
    Requeue(Requeue),
    /// Gives dead events up: they keep their key, so that a copy that is sent again is not run either.
    Discard(Change),
    /// Runs the handlers of processed events again, whose effects then happen a second time.
    Replay(Replay),
}

/// Which rows.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selection {
    /// Only events of this name.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) event: Option<String>,
    /// Only of this session.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) session: Option<String>,
    /// Only of this lane (outbox) or subscription (inbox).
    #[arg(long, visible_aliases = ["lane", "subscription"], value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) of: Option<String>,
    /// Only rows whose last error has this text in it.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) error: Option<String>,
    /// Only rows written (sent, processed) since then: a time (2026-11-28T07:30:00Z, 2026-11-28T10:00:00+02:00), or how long ago (2h).
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// Only rows from before then.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
}

impl Selection {
    pub(crate) const fn is_empty(&self) -> bool {
        self.event.is_none()
            && self.session.is_none()
            && self.of.is_none()
            && self.error.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }
}

/// The states, as the command line calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// Waits to be sent or handled.
    Pending,
    /// Waits for its time (outbox).
    Delayed,
    /// Ended dead.
    Dead,
    /// Was sent (outbox); of the last hour, if --since says nothing.
    Sent,
    /// Was processed (inbox); of the last hour, if --since says nothing.
    Processed,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// In which state.
    #[arg(long, value_enum, default_value = "dead")]
    pub(crate) state: Wanted,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// The page after this place, which the page before has ended with.
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The event's id.
    pub(crate) id: EventId,
    /// Leaves the body out.
    #[arg(long)]
    pub(crate) no_body: bool,
}

/// Dead rows, by id or by what is known of them.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// Events by id; none: those that the filters let through.
    pub(crate) ids: Vec<EventId>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// All dead rows.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Why: it is added to the rows' last errors, as far as rows are kept.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Requeue {
    #[command(flatten)]
    pub(crate) rows: Change,
    /// They are due so much later.
    #[arg(long, value_name = "SPAN", value_parser = delay, default_value = "0s")]
    pub(crate) delay: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// Events by id; none: those that the filters let through.
    pub(crate) ids: Vec<EventId>,
    /// The subscription whose handlers are to run again.
    #[arg(long, value_name = "NAME")]
    pub(crate) subscription: String,
    /// Only events of this name.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) event: Option<String>,
    /// Only of this session.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) session: Option<String>,
    /// Processed since then: a time (2026-11-28T07:30:00Z, 2026-11-28T10:00:00+02:00), or how long ago (2h).
    #[arg(long, value_name = "WHEN", required_unless_present = "ids")]
    pub(crate) since: Option<When>,
    /// Processed before then.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// Without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Resend {
    /// Sent since then: a time (2026-11-28T07:30:00Z, 2026-11-28T10:00:00+02:00), or how long ago (2h).
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: When,
    /// Sent before then; now, if not said.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// Only events of this name.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) event: Option<String>,
    /// How long receivers know what they have had: their `keep_keys`.
    #[arg(long, value_name = "SPAN", value_parser = span, default_value = "30d")]
    pub(crate) horizon: Duration,
    /// Also what is older than the horizon.
    #[arg(long)]
    pub(crate) force: bool,
    /// Without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}
