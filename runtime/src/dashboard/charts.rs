//! Throughput and waits over the last hours, drawn on the server.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use tokio::sync::Mutex;

use super::Shared;
use super::page::Refusal;
use super::words::{instant, number, span, time_of_day};
use crate::admin::{self, Span, Table};
use crate::storage::OperatorStorage;

/// What is older than this isn't going to change by what is under way.
const SETTLED: Duration = Duration::from_secs(10);

/// How far back charts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Window {
    Hour,
    SixHours,
    Day,
}

impl Window {
    pub(super) const ALL: [Self; 3] = [Self::Hour, Self::SixHours, Self::Day];

    pub(super) fn of(text: &str) -> Self {
        Self::ALL.into_iter().find(|window| window.name() == text).unwrap_or(Self::Hour)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hour => "1 h",
            Self::SixHours => "6 h",
            Self::Day => "24 h",
        }
    }

    /// The seconds of one span, and how many there are.
    const fn spans(self) -> (u64, u64) {
        match self {
            Self::Hour => (60, 60),
            Self::SixHours => (300, 72),
            Self::Day => (1_200, 72),
        }
    }

    const fn each(self) -> &'static str {
        match self {
            Self::Hour => "minute",
            Self::SixHours => "5 minutes",
            Self::Day => "20 minutes",
        }
    }
}

/// Spans that are over: they are asked for once.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<(bool, u64, u64), Span>>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

/// Both tables' spans, the oldest first.
pub(super) struct History {
    outbox: Vec<Span>,
    inbox: Vec<Span>,
}

/// One request at a time asks the database; those that wait for it find most of it known.
pub(super) async fn history<DB: OperatorStorage>(
    shared: &Shared<DB>,
    window: Window,
) -> Result<History, Refusal> {
    let mut known = shared.charts.0.lock().await;
    let now = admin::clock(&shared.pool).await?;
    let (seconds, count) = window.spans();
    let last = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / seconds;
    let first = last.saturating_sub(count - 1);
    known.retain(|(_, length, at), _| *length != seconds || *at >= first);
    let mut history = History { outbox: Vec::new(), inbox: Vec::new() };
    for (table, spans) in [(Table::Outbox, &mut history.outbox), (Table::Inbox, &mut history.inbox)] {
        for at in first..=last {
            let key = (table == Table::Outbox, seconds, at);
            let span = match known.get(&key) {
                Some(span) => span.clone(),
                None => {
                    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(at * seconds);
                    let until = since + Duration::from_secs(seconds);
                    let span = admin::settled_between(&shared.pool, table, since, until).await?;
                    if until + SETTLED < now {
                        known.insert(key, span.clone());
                    }
                    span
                }
            };
            spans.push(span);
        }
    }
    Ok(history)
}

pub(super) fn shown(history: &History, window: Window) -> Markup {
    let (sent, processed) = (&history.outbox, &history.inbox);
    html! {
        (throughput("Sent", "outbox", sent, window, ""))
        (throughput("Processed", "inbox", processed, window, "two"))
        (waits("Wait before sending", sent, window))
        (waits("Wait before processing", processed, window))
    }
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// Where things stand in a chart of so many spans, up to a value.
struct Scale {
    step: f64,
    top: f64,
}

impl Scale {
    fn new(spans: usize, most: f64) -> Self {
        Self { step: (WIDTH - LEFT - RIGHT) / spans.max(1) as f64, top: nice(most) }
    }

    fn x(&self, n: usize) -> f64 {
        LEFT + self.step * n as f64
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / self.top)
    }
}

/// The next 1, 2 or 5 of a power of ten.
fn nice(most: f64) -> f64 {
    let most = most.max(1.0);
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= most).unwrap_or(most)
}

fn axes(scale: &Scale, spans: &[Span], label: impl Fn(f64) -> String) -> Markup {
    html! {
        @for part in [0.0, 0.5, 1.0] {
            @let y = scale.y(scale.top * part);
            line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(place(y)) y2=(place(y)) {}
            text x=(LEFT - 6.0) y=(place(y + 4.0)) text-anchor="end" { (label(scale.top * part)) }
        }
        @for (n, span) in spans.iter().enumerate().step_by((spans.len() / 6).max(1)) {
            text x=(place(scale.x(n))) y=(HEIGHT - 6.0) { (time_of_day(span.since)) }
        }
    }
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

fn throughput(title: &str, table: &str, spans: &[Span], window: Window, class: &str) -> Markup {
    let most = spans.iter().map(|span| span.settled).max().unwrap_or(0);
    let all: u64 = spans.iter().map(|span| span.settled).sum();
    let scale = Scale::new(spans.len(), most as f64);
    let is_guessed = spans.iter().any(|span| span.estimated);
    let about = format!(
        "{title} events for each {} of the last {}: {} in all, {} at most",
        window.each(),
        window.name(),
        number(all),
        number(most)
    );
    html! {
        section.panel.chart {
            h2 { (title) " per " (window.each()) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(about) data-chart=(table) data-total=(all) {
                (axes(&scale, spans, short))
                @for (n, span) in spans.iter().enumerate().filter(|(_, span)| span.settled > 0) {
                    @let y = scale.y(span.settled as f64).min(HEIGHT - BOTTOM - 1.0);
                    rect class={ "bar " (class) @if span.estimated { " guess" } } x=(place(scale.x(n) + 0.75)) y=(place(y)) rx="1" width=(place((scale.step - 1.5).max(1.0))) height=(place(HEIGHT - BOTTOM - y)) {
                        title { (time_of_day(span.since)) ": " (settled(span)) }
                    }
                }
            }
            @if is_guessed {
                p.legend { "Paler bars are estimates: of each " (window.each()) " no more than 10 000 events are counted, and the rest is taken to have gone on in the same way." }
            }
            (as_table(spans, &[("Events", &settled)]))
        }
    }
}

fn settled(span: &Span) -> String {
    let about = if span.estimated { "about " } else { "" };
    format!("{about}{}", number(span.settled))
}

fn waits(title: &str, spans: &[Span], window: Window) -> Markup {
    let seconds = |lag: Option<Duration>| lag.map(|lag| lag.as_secs_f64() * 1_000.0);
    let most = spans.iter().filter_map(|span| seconds(span.longest_lag)).fold(0.0, f64::max);
    let scale = Scale::new(spans.len(), most);
    let mean = |span: &Span| span.mean_lag.map_or_else(|| "–".to_owned(), super::words::span);
    let longest = |span: &Span| span.longest_lag.map_or_else(|| "–".to_owned(), super::words::span);
    let about = format!(
        "{title} for each {} of the last {}: {} at most",
        window.each(),
        window.name(),
        span(Duration::from_millis(most as u64))
    );
    html! {
        section.panel.chart {
            h2 { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(about) {
                (axes(&scale, spans, |value| span(Duration::from_millis(value as u64))))
                (line(&scale, spans, "top", |span| seconds(span.longest_lag)))
                (line(&scale, spans, "", |span| seconds(span.mean_lag)))
            }
            p.legend {
                span { (sample("")) "average" }
                span { (sample("top")) "longest" }
                span { "of the last 100 events of each " (window.each()) }
            }
            (as_table(spans, &[("Average", &mean), ("Longest", &longest)]))
        }
    }
}

fn sample(class: &str) -> Markup {
    html! { svg width="22" height="10" aria-hidden="true" { path class={ "line " (class) } d="M1 5h20" {} } }
}

/// A line with a gap wherever there is no value.
fn line(scale: &Scale, spans: &[Span], class: &str, value: impl Fn(&Span) -> Option<f64>) -> Markup {
    let points: Vec<_> = spans
        .iter()
        .enumerate()
        .map(|(n, span)| value(span).map(|value| (scale.x(n) + scale.step / 2.0, scale.y(value))))
        .collect();
    let mut path = String::new();
    let mut alone = Vec::new();
    for (n, point) in points.iter().enumerate() {
        let Some((x, y)) = point else { continue };
        let is_first = n == 0 || points[n - 1].is_none();
        path.push_str(&format!("{}{x:.1} {y:.1}", if is_first { "M" } else { "L" }));
        if is_first && points.get(n + 1).is_none_or(Option::is_none) {
            alone.push((x, y));
        }
    }
    html! {
        path class={ "line " (class) } d=(path) {}
        @for (x, y) in alone { circle class={ "dot " (class) } cx=(place(*x)) cy=(place(*y)) r="2.5" {} }
    }
}

fn short(value: f64) -> String {
    match value {
        _ if value >= 1_000_000.0 => format!("{}M", value / 1_000_000.0),
        _ if value >= 1_000.0 => format!("{}k", value / 1_000.0),
        _ => format!("{value}"),
    }
}

type Column<'a> = (&'a str, &'a dyn Fn(&Span) -> String);

fn as_table(spans: &[Span], columns: &[Column<'_>]) -> Markup {
    html! {
        details {
            summary { "As a table" }
            div.scroll tabindex="0" role="group" aria-label="The chart's values" {
                table {
                    thead { tr { th scope="col" { "From (UTC)" } @for (name, _) in columns { th.n scope="col" { (name) } } } }
                    tbody {
                        @for span in spans.iter().rev() {
                            tr { th.nowrap scope="row" { (instant(span.since)) } @for (_, value) in columns { td.n { (value(span)) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_a_round_number() {
        let tops: Vec<_> = [0.0, 1.0, 3.0, 20.0, 21.0, 9_999.0].into_iter().map(nice).collect();
        assert_eq!(tops, [1.0, 1.0, 5.0, 20.0, 50.0, 10_000.0]);
        assert_eq!([short(500.0), short(2_500.0), short(1_000_000.0)], ["500", "2.5k", "1M"]);
    }
}
