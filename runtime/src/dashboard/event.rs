//! An event with all that is known of it, in both tables, and what it belongs to.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};

use super::App;
use super::lists::{badge, owner_words};
use super::page::{Place, Refusal};
use super::payload::Payloads;
use super::visit::Visit;
use super::words::{span, time, visible};
use crate::admin::{self, Chain, ChainLink, RowDetail, Table};
use crate::envelope::EventId;
use crate::storage::OperatorStorage;

/// More of a chain than this is not shown.
const LINKS: usize = 200;

pub(super) async fn show<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Path(id): Path<String>,
    visit: Visit,
) -> Result<Response, Refusal> {
    let id: EventId = id.parse().map_err(|_| Refusal::Senseless("This is no event's id: one is a UUID."))?;
    let pool = &app.0.pool;
    let published = admin::outbox_row(pool, id).await?;
    let received = admin::inbox_rows(pool, id).await?;
    let Some(first) = published.as_ref().or(received.first()) else {
        let main = html! {
            h1 { "Nobody knows this event" }
            p { "Neither table has an event with the id " code { (id) } ". Retention may have taken it." }
        };
        let mut response = visit.page("No such event", Place::None, &main).into_response();
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let name = visible(&first.summary.event);
    let chain = admin::chain(pool, id).await?;
    let payloads = &app.0.payloads;
    let place = if published.is_some() { Place::Outbox } else { Place::Inbox };
    let main = html! {
        div.head { div { h1.break { (name) } p.sub.mono { (id) } } }
        @if let Some(row) = &published { (row_panel(&visit, payloads, Table::Outbox, row)) }
        @for row in &received { (row_panel(&visit, payloads, Table::Inbox, row)) }
        (contents(payloads, published.as_ref(), &received))
        @if let Some(chain) = &chain { (chain_panel(&visit, id, chain)) }
    };
    Ok(visit.page(&name, place, &main))
}

fn row_panel(visit: &Visit, payloads: &Payloads, table: Table, row: &RowDetail) -> Markup {
    let summary = &row.summary;
    let (owner, _) = owner_words(table);
    let title = match table {
        Table::Outbox => "In the outbox",
        Table::Inbox => "In the inbox",
    };
    html! {
        section.panel {
            h2 { (title) " " (badge(&summary.state)) }
            @if let Some(trouble) = summary.trouble(table) { p.note.bad role="alert" { "This row " (visible(&trouble)) "." } }
            dl.facts {
                dt { (owner) } dd { (visible(&summary.owner)) }
                @if let Some(topic) = &row.topic { dt { "Topic" } dd { (visible(topic)) } }
                dt { "Version" } dd { (summary.version) }
                @if let Some(session) = &summary.session_id { dt { "Session" } dd { (visible(session)) } }
                dt { "Attempts" } dd { (summary.attempts) }
                @if let Some(at) = row.published_at { dt { "Published (UTC)" } dd { (time(at)) } }
                dt { @if table == Table::Outbox { "Written (UTC)" } @else { "Received (UTC)" } } dd { (time(summary.written_at)) }
                @if let Some(at) = summary.due_at { dt { "Due (UTC)" } dd { (time(at)) } }
                @if let Some(at) = summary.settled_at {
                    dt { "Settled (UTC)" }
                    dd { (time(at)) @if let Ok(took) = at.duration_since(summary.written_at) { " " span.muted { "after " (span(took)) } } }
                }
                @if let Some(at) = row.expires_at { dt { "Expires (UTC)" } dd { (time(at)) } }
                @if let Some(id) = &row.message_id { dt { "Message id" } dd.mono { (visible(id)) } }
                @if let Some(id) = &row.correlation_id { dt { "Correlation id" } dd.mono { (visible(id)) } }
                @if let Some(id) = &row.causation_id { dt { "Causation id" } dd.mono { (cause(visit, id)) } }
                @if let Some(error) = &summary.error { dt { "Last error" } dd { (payloads.error(&summary.event, error)) } }
            }
            @if visit.may_write() && summary.state == "dead" {
                form method="post" action=(format!("{}/{}/choose", visit.base, table.name())) {
                    input type="hidden" name="form" value=(visit.visitor.form);
                    input type="hidden" name="seq" value=(summary.seq);
                    div.actions {
                        button.primary type="submit" name="action" value="requeue" { "Requeue…" }
                        button.danger type="submit" name="action" value="discard" { "Discard…" }
                    }
                }
            }
        }
    }
}

/// A link where it is an event's id.
fn cause(visit: &Visit, id: &str) -> Markup {
    match id.parse::<EventId>() {
        Ok(event) => html! { a href=(format!("{}/events/{event}", visit.base)) { (visible(id)) } },
        Err(_) => html! { (visible(id)) },
    }
}

/// The payload and the headers, once where all rows have the same.
fn contents(payloads: &Payloads, published: Option<&RowDetail>, received: &[RowDetail]) -> Markup {
    let mut different: Vec<(String, &RowDetail)> = Vec::new();
    let named = published.map(|row| ("of the outbox".to_owned(), row));
    let named =
        named.into_iter().chain(received.iter().map(|row| (format!("of {}", row.summary.owner), row)));
    for (name, row) in named {
        let same = |other: &RowDetail| {
            other.headers == row.headers && (row.data.is_none() || other.data == row.data)
        };
        if !different.iter().any(|(_, other)| same(other)) {
            different.push((name, row));
        }
    }
    html! {
        @for (name, row) in &different {
            @let of = if different.len() > 1 { format!(" {}", visible(name)) } else { String::new() };
            section.panel {
                h2 { "Payload" (of) }
                (payloads.body(&row.summary.event, row.data.as_deref()))
                h3 { "Headers" (of) }
                (payloads.headers(&row.summary.event, &row.headers))
            }
        }
    }
}

fn chain_panel(visit: &Visit, here: EventId, chain: &Chain) -> Markup {
    html! {
        section.panel {
            h2 { "What it belongs to" }
            p.muted {
                "Causes are found by their ids. What has come of them was looked for by the correlation, among 10 000 rows of each state, those that are settled up to "
                (time(chain.searched_until)) " UTC."
            }
            ol.chain {
                @for link in chain.links.iter().take(LINKS) {
                    li class={ "d" (link.depth.min(5)) @if link.id == here { " here" } } aria-current=[(link.id == here).then_some("true")] {
                        (chain_link(visit, link))
                    }
                }
            }
            @if chain.links.len() > LINKS { p.muted { "There are " (chain.links.len() - LINKS) " more." } }
        }
    }
}

fn chain_link(visit: &Visit, link: &ChainLink) -> Markup {
    let name = link.rows.first().map_or_else(|| link.id.to_string(), |(_, row)| visible(&row.event));
    html! {
        a.break href=(format!("{}/events/{}", visit.base, link.id)) { (name) }
        " " span.id.mono { (link.id) }
        @for (table, row) in &link.rows {
            div { span.muted { (table.name()) " " (visible(&row.owner)) } " " (badge(&row.state)) " " span.muted { (time(row.settled_at.unwrap_or(row.written_at))) } }
        }
    }
}
