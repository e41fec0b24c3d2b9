//! Rows of a table, searched.

use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::App;
use super::page::{Place, Refusal};
use super::payload::Payloads;
use super::visit::Visit;
use super::words::{count, query, time, visible};
use crate::admin::{self, RowFilter, RowState, RowSummary, Table};
use crate::envelope::EventId;
use crate::storage::OperatorStorage;

const PAGE: u32 = 50;

/// How far back settled rows are looked for: they are retained history, of which no page reads much. Older ones are found by
/// their ids.
const SPANS: [(&str, u64); 3] = [("15 min", 900), ("1 h", 3_600), ("6 h", 21_600)];
const LONGEST: Duration = Duration::from_secs(21_600);

/// What a list was asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    state: String,
    lane: String,
    subscription: String,
    event: String,
    session: String,
    error: String,
    since: String,
    from: String,
    until: String,
    after: String,
    /// What was done before: a word of ours, and how many rows it was.
    done: String,
    count: u64,
}

/// What rows of a table belong to, and how that is asked for.
pub(super) const fn owner_words(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Outbox => ("Lane", "lane"),
        Table::Inbox => ("Subscription", "subscription"),
    }
}

const fn states(table: Table) -> &'static [(RowState, &'static str)] {
    match table {
        Table::Outbox => &[
            (RowState::Dead, "dead"),
            (RowState::Pending, "pending"),
            (RowState::Delayed, "delayed"),
            (RowState::Settled, "sent"),
        ],
        Table::Inbox => {
            &[(RowState::Dead, "dead"), (RowState::Pending, "pending"), (RowState::Settled, "processed")]
        }
    }
}

fn given(text: &str) -> Option<String> {
    // No text of any database has it.
    let text = text.trim().replace('\0', "");
    (!text.is_empty()).then_some(text)
}

/// A time, if one is said.
fn instant(text: &str) -> Result<Option<SystemTime>, Refusal> {
    const WRONG: &str = "This is no time: one is such as 2026-11-28T07:30:00Z, or 2026-11-28T10:00:00+02:00.";
    given(text).map(|text| admin::time_of(&text).map_err(|_| Refusal::Senseless(WRONG))).transpose()
}

impl Asked {
    fn state(&self, table: Table) -> (RowState, &'static str) {
        let states = states(table);
        states.iter().copied().find(|(_, name)| *name == self.state).unwrap_or(states[0])
    }

    fn owner(&self, table: Table) -> &str {
        match table {
            Table::Outbox => &self.lane,
            Table::Inbox => &self.subscription,
        }
    }

    fn span(&self) -> (&'static str, Duration) {
        let found = SPANS.into_iter().find(|(name, _)| *name == self.since).unwrap_or(SPANS[1]);
        (found.0, Duration::from_secs(found.1))
    }

    fn filter(&self, table: Table, now: SystemTime) -> Result<RowFilter, Refusal> {
        let (state, _) = self.state(table);
        let until = instant(&self.until)?;
        let mut filter = match (state, instant(&self.from)?) {
            (RowState::Settled, Some(from)) if until.unwrap_or(now) > from + LONGEST => {
                return Err(Refusal::Senseless(
                    "Settled rows are read six hours at a time: say an earlier end, or a later beginning.",
                ));
            }
            (_, Some(from)) => RowFilter::new(state, from),
            (RowState::Settled, None) => RowFilter::new(state, until.unwrap_or(now) - self.span().1),
            (_, None) => RowFilter::whenever(state),
        };
        filter.until = until;
        filter.owner = given(self.owner(table));
        filter.event = given(&self.event);
        filter.session = given(&self.session);
        filter.error = given(&self.error);
        filter.limit = PAGE;
        if !self.after.is_empty() {
            let place = self.after.parse().map_err(|_| Refusal::Senseless("This is no place in a list."))?;
            filter.after = Some(place);
        }
        Ok(filter)
    }

    /// The same list from another place on.
    fn link(&self, visit: &Visit, table: Table, after: &str) -> String {
        let pairs = [
            ("state", self.state(table).1),
            (owner_words(table).1, self.owner(table)),
            ("event", &self.event),
            ("session", &self.session),
            ("error", &self.error),
            ("since", &self.since),
            ("from", &self.from),
            ("until", &self.until),
            ("after", after),
        ];
        let said: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        format!("{}/{}?{}", visit.base, table.name(), query(&said))
    }
}

pub(super) async fn outbox<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Query(asked): Query<Asked>,
    visit: Visit,
) -> Result<Response, Refusal> {
    show(&app, &asked, &visit, Table::Outbox).await
}

pub(super) async fn inbox<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Query(asked): Query<Asked>,
    visit: Visit,
) -> Result<Response, Refusal> {
    show(&app, &asked, &visit, Table::Inbox).await
}

#[derive(Deserialize)]
pub(super) struct Sought {
    #[serde(default)]
    id: String,
}

/// An event by its id.
pub(super) async fn find<DB: OperatorStorage>(
    State(_app): State<App<DB>>,
    Query(sought): Query<Sought>,
    visit: Visit,
) -> Result<Response, Refusal> {
    let id: EventId = sought.id.trim().parse().map_err(|_| {
        Refusal::Senseless(
            "This is no event's id: one is a UUID, such as 019ab5f0-5c9d-7c7e-b7d5-6f1d3a0f2f11.",
        )
    })?;
    Ok(visit.go(&format!("/events/{id}")).into_response())
}

async fn show<DB: OperatorStorage>(
    app: &App<DB>,
    asked: &Asked,
    visit: &Visit,
    table: Table,
) -> Result<Response, Refusal> {
    let pool = &app.0.pool;
    let mut filter = asked.filter(table, admin::clock(pool).await?)?;
    let payloads = &app.0.payloads;
    filter.error = filter.error.filter(|_| payloads.are_errors_shown());
    let rows = admin::list_rows(pool, table, &filter).await?;
    let (title, place) = match table {
        Table::Outbox => ("Outbox", Place::Outbox),
        Table::Inbox => ("Inbox", Place::Inbox),
    };
    let sub = match table {
        Table::Outbox => "Events that this database's application has published.",
        Table::Inbox => "Events that this database's application has received.",
    };
    let main = html! {
        div.head {
            div { h1 { (title) } p.sub { (sub) } }
            form.filters action=(format!("{}/find", visit.base)) role="search" aria-label="Event by id" {
                label { "Event id" input type="text" name="id" required size="38" autocomplete="off"; }
                button type="submit" { "Show" }
            }
        }
        (done(asked))
        section.panel aria-label="Filters" { (filters(asked, visit, payloads, table)) }
        section.panel {
            h2 { (count(rows.len() as u64, "row", "rows")) @if rows.len() as u64 == u64::from(PAGE) { ", and there may be more" } }
            @if rows.is_empty() { p.muted { "Nothing is in this state, as far as the filters let through." } }
            @else {
                (chosen(visit, payloads, table, asked, &rows))
                @if let Some(last) = rows.last().filter(|_| rows.len() as u64 == u64::from(PAGE)) {
                    p { a.button href=(asked.link(visit, table, &last.cursor.to_string())) { "Next page" } }
                }
            }
            @if !asked.after.is_empty() { p { a href=(asked.link(visit, table, "")) { "From the beginning" } } }
        }
    };
    Ok(visit.page(title, place, &main))
}

fn done(asked: &Asked) -> Markup {
    let text = match asked.done.as_str() {
        "requeued" => "requeued",
        "discarded" => "discarded",
        _ => return html! {},
    };
    html! { p.note.good role="status" { (text) ": " (count(asked.count, "event", "events")) "." } }
}

fn filters(asked: &Asked, visit: &Visit, payloads: &Payloads, table: Table) -> Markup {
    let (owner, key) = owner_words(table);
    let (state, name) = asked.state(table);
    html! {
        form.filters action=(format!("{}/{}", visit.base, table.name())) {
            label { "State"
                select name="state" { @for (_, each) in states(table) { option value=(each) selected[*each == name] { (each) } } }
            }
            label { (owner) input type="text" name=(key) value=(asked.owner(table)); }
            label { "Event" input type="text" name="event" value=(asked.event); }
            label { "Session" input type="text" name="session" value=(asked.session); }
            @if payloads.are_errors_shown() { label { "Error has" input type="text" name="error" value=(asked.error); } }
            label { "Settled within"
                select name="since" { @for (each, _) in SPANS { option value=(each) selected[each == asked.span().0] { (each) } } }
            }
            label { "From" input type="text" name="from" value=(asked.from) placeholder="2026-11-28T10:00:00+02:00" autocomplete="off"; }
            label { "Until" input type="text" name="until" value=(asked.until) placeholder="2026-11-28T11:00:00+02:00" autocomplete="off"; }
            button.primary type="submit" { "Search" }
            a href=(format!("{}/{}?{}", visit.base, table.name(), query(&[("state", name)]))) { "Clear" }
        }
        @if state == RowState::Settled {
            p.muted { "Settled rows are kept for days and more, and are read as a span of time. Older ones are found by their ids." }
        }
    }
}

/// The rows, to be chosen from where something can be done to them.
fn chosen(visit: &Visit, payloads: &Payloads, table: Table, asked: &Asked, rows: &[RowSummary]) -> Markup {
    let (state, _) = asked.state(table);
    let can_change = visit.may_write() && state == RowState::Dead;
    let list = html! {
        div.scroll tabindex="0" role="group" aria-label="Rows" {
            table {
                thead { tr {
                    @if can_change { th scope="col" { label data-all hidden { span.hide { "All rows of this page" } input type="checkbox"; } span.hide { "Choose" } } }
                    th scope="col" { "Event" }
                    th scope="col" { (owner_words(table).0) }
                    th scope="col" { "Session" }
                    th scope="col" { "State" }
                    th.n scope="col" { "Attempts" }
                    th scope="col" { "Written (UTC)" }
                    th scope="col" { @match state { RowState::Settled => "Settled (UTC)", RowState::Dead => "Died (UTC)", _ => "Due (UTC)" } }
                    th scope="col" { "Last error" }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            @if can_change { td { label { span.hide { "Choose " (visible(&row.event)) " " (row.id) } input type="checkbox" name="seq" value=(row.seq); } } }
                            (cells(visit, payloads, table, row))
                        }
                    }
                }
            }
        }
    };
    html! {
        @if can_change {
            form method="post" action=(format!("{}/{}/choose", visit.base, table.name())) {
                input type="hidden" name="form" value=(visit.visitor.form);
                (list)
                div.actions {
                    button.primary type="submit" name="action" value="requeue" { "Requeue chosen…" }
                    button.danger type="submit" name="action" value="discard" { "Discard chosen…" }
                }
            }
        } @else { (list) }
    }
}

fn cells(visit: &Visit, payloads: &Payloads, table: Table, row: &RowSummary) -> Markup {
    html! {
        td { (event_link(visit, row)) }
        td.break { (visible(&row.owner)) }
        td.break { @match &row.session_id { Some(session) => (visible(session)), None => span.muted { "–" } } }
        td { (badge(&row.state)) }
        td.n { (row.attempts) }
        td { (time(row.written_at)) }
        td { @match row.settled_at.or(row.due_at) { Some(at) => (time(at)), None => span.muted { "–" } } }
        td {
            @if let Some(trouble) = row.trouble(table) { div.error { "This row " (visible(&trouble)) "." } }
            @if let Some(error) = &row.error { (payloads.error(&row.event, error)) }
        }
    }
}

fn event_link(visit: &Visit, row: &RowSummary) -> Markup {
    let Some(id) = row.known_id() else {
        return html! { span.break { (visible(&row.event)) } div.id.mono { "seq " (row.seq) } };
    };
    html! {
        a.break href=(format!("{}/events/{id}", visit.base)) { (visible(&row.event)) }
        @if row.version > 1 { " " span.muted { "v" (row.version) } }
        div.id.mono { (id) }
    }
}

pub(super) fn badge(state: &str) -> Markup {
    let class = match state {
        "sent" | "processed" => "good",
        "dead" => "bad",
        "pending" => "info",
        _ => "",
    };
    html! { span class={ "badge " (class) } { (visible(state)) } }
}

/// Rows of both tables, with what matters most of them.
pub(super) fn brief(visit: &Visit, payloads: &Payloads, rows: &[(Table, RowSummary)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Rows" {
            table {
                thead { tr { th scope="col" { "Event" } th scope="col" { "Table" } th scope="col" { "Lane or subscription" } th scope="col" { "Died (UTC)" } th scope="col" { "Last error" } } }
                tbody {
                    @for (table, row) in rows {
                        tr {
                            td { (event_link(visit, row)) }
                            td { (table.name()) }
                            td.break { (visible(&row.owner)) }
                            td { @if let Some(at) = row.settled_at { (time(at)) } }
                            td { @if let Some(error) = &row.error { (payloads.error(&row.event, error)) } }
                        }
                    }
                }
            }
        }
    }
}
