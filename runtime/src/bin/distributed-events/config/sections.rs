//! The tables of a configuration file.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Section;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const DAY: u64 = 86_400;
const POLL: RangeInclusive<Duration> = Duration::from_millis(1)..=seconds(60);
const LEASE: RangeInclusive<Duration> = seconds(1)..=seconds(600);
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=seconds(3_600);
const KEPT: RangeInclusive<Duration> = seconds(0)..=seconds(3_650 * DAY);

/// `[outbox]`: what is not said has the library's default.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) relay: Option<bool>,
    pub(crate) default_topic: Option<String>,
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) batch_size: Option<u32>,
    pub(crate) in_flight: Option<u32>,
    pub(crate) lease_time: Option<Duration>,
    pub(crate) retry: Option<(Duration, Duration)>,
    pub(crate) keep_sent: Option<Duration>,
    pub(crate) delete_sent: bool,
}

impl Outbox {
    pub(super) fn of(mut section: Section<'_>) -> Self {
        let found = Self {
            relay: section.flag("relay"),
            default_topic: section.text("default_topic"),
            poll_interval: section.span("poll_interval", POLL),
            batch_size: section.number("batch_size", 1..=4_500),
            in_flight: section.number("in_flight", 1..=256),
            lease_time: section.span("lease_time", LEASE),
            retry: retry(&mut section, (Duration::from_millis(100), seconds(30))),
            keep_sent: section.span("keep_sent", KEPT),
            delete_sent: section.flag("delete_sent").unwrap_or(false),
        };
        if found.delete_sent && found.keep_sent.is_some() {
            section
                .wrong("delete_sent", "what is deleted at once is not kept: leave this or `keep_sent` out");
        }
        section.finish();
        found
    }
}

/// `[inbox]`: the same.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) relay: Option<bool>,
    pub(crate) receive_batch: Option<u32>,
    pub(crate) retry: Option<(Duration, Duration)>,
    pub(crate) keep_bodies: Option<Duration>,
    pub(crate) keep_keys: Option<Duration>,
}

impl Inbox {
    pub(super) fn of(mut section: Section<'_>) -> Self {
        let found = Self {
            relay: section.flag("relay"),
            receive_batch: section.number("receive_batch", 1..=2_000),
            retry: retry(&mut section, (Duration::from_millis(100), seconds(5))),
            keep_bodies: section.span("keep_bodies", KEPT),
            keep_keys: section.span("keep_keys", KEPT),
        };
        section.finish();
        found
    }
}

/// The first wait after a failure and the longest; each wait is twice the one before.
fn retry(section: &mut Section<'_>, defaults: (Duration, Duration)) -> Option<(Duration, Duration)> {
    let (initial, max) = (section.span("retry_initial", WAIT), section.span("retry_max", WAIT));
    if initial.is_none() && max.is_none() {
        return None;
    }
    let (initial, max) = (initial.unwrap_or(defaults.0), max.unwrap_or(defaults.1));
    if initial > max {
        section.wrong("retry_initial", "the first wait is longer than the longest, `retry_max`");
    }
    Some((initial, max))
}

/// What the relay does at an incident beside logging it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Waits and tries again; an event that can't be sent stays dead.
    #[default]
    Continue,
    /// Stops in order, with exit status 4.
    Stop,
}

/// `[errors]`
#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    pub(crate) database: OnError,
    pub(crate) broker: OnError,
    pub(crate) dead_event: OnError,
}

impl Errors {
    pub(super) fn of(mut section: Section<'_>) -> Self {
        let choices = [("continue", OnError::Continue), ("stop", OnError::Stop)];
        let found = Self {
            database: section.choice("database", &choices).unwrap_or_default(),
            broker: section.choice("broker", &choices).unwrap_or_default(),
            dead_event: section.choice("dead_event", &choices).unwrap_or_default(),
        };
        section.finish();
        found
    }
}

/// `[log]`
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: false }
    }
}

impl Log {
    pub(super) fn of(mut section: Section<'_>) -> Self {
        let filter = section.text("filter").unwrap_or_else(|| Self::default().filter);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
            section.wrong("filter", &format!("{error}; write a level, or such as \"info,sqlx=warn\""));
        }
        let json = section.choice("format", &[("text", false), ("json", true)]).unwrap_or(false);
        section.finish();
        Self { filter, json }
    }
}

/// `[telemetry]`: what OpenTelemetry is told, where the environment names a collector.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    #[cfg_attr(
        not(feature = "cli-otel"),
        expect(dead_code, reason = "a mistake in it is told all the same")
    )]
    pub(crate) service_name: Option<String>,
}

impl Telemetry {
    pub(super) fn of(mut section: Section<'_>) -> Self {
        let found = Self { service_name: section.text("service_name") };
        section.finish();
        found
    }
}
