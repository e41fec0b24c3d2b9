//! Requeue and discard: rows are chosen, looked at once more, and then changed.

use std::time::Duration;

use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};

use super::App;
use super::chosen::{Action, Chosen, table};
use super::page::{Place, Refusal};
use super::visit::Visit;
use super::words::count;
use crate::admin::{self, Table};
use crate::storage::OperatorStorage;

/// A reason is as long as the library keeps it.
const LONGEST_REASON: usize = 500;

fn allowed<DB: OperatorStorage>(app: &App<DB>, visit: &Visit, chosen: &Chosen) -> Result<(), Refusal> {
    // First who it is: another site's form gets to know nothing.
    if !app.0.doors.is_own_form(&visit.headers, &visit.visitor, &chosen.form) {
        return Err(Refusal::Foreign);
    }
    if visit.may_write() { Ok(()) } else { Err(Refusal::ReadOnly) }
}

/// Asks once more, and why.
pub(super) async fn choose<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Path(name): Path<String>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let (table, chosen) = (table(&name)?, Chosen::of(fields)?);
    allowed(&app, &visit, &chosen)?;
    if chosen.seqs.is_empty() {
        return Err(Refusal::Senseless("No row was chosen. Go back and tick some."));
    }
    let (title, place) = match (table, chosen.action) {
        (Table::Outbox, Action::Requeue) => ("Requeue events of the outbox", Place::Outbox),
        (Table::Outbox, Action::Discard) => ("Discard events of the outbox", Place::Outbox),
        (Table::Inbox, Action::Requeue) => ("Requeue events of the inbox", Place::Inbox),
        (Table::Inbox, Action::Discard) => ("Discard events of the inbox", Place::Inbox),
    };
    Ok(visit.page(title, place, &question(&visit, table, &chosen, title)))
}

fn question(visit: &Visit, table: Table, chosen: &Chosen, title: &str) -> Markup {
    let is_for_good = chosen.action == Action::Discard;
    html! {
        h1 { (title) }
        section.panel {
            p { strong { (count(chosen.seqs.len() as u64, "event", "events")) } ". " (meaning(table, chosen.action)) }
            form method="post" action=(format!("{}/{}/change", visit.base, table.name())) {
                input type="hidden" name="form" value=(visit.visitor.form);
                input type="hidden" name="action" value=(chosen.action.name());
                @for seq in &chosen.seqs { input type="hidden" name="seq" value=(seq); }
                label { "Why" @if !is_for_good { " (may be left out)" }
                    textarea name="reason" maxlength=(LONGEST_REASON) required[is_for_good] aria-describedby="kept" {}
                }
                p.muted #kept { (kept(table, chosen.action)) }
                div.actions {
                    @if is_for_good { button.danger.sure type="submit" { "Discard for good" } }
                    @else { button.primary type="submit" { "Requeue" } }
                    a.button href=(format!("{}/{}?state=dead", visit.base, table.name())) { "Cancel" }
                }
            }
        }
    }
}

const fn meaning(table: Table, action: Action) -> &'static str {
    match (table, action) {
        (Table::Outbox, Action::Requeue) => {
            "They are sent again, with no attempts counted. Within their sessions they come after those that went on without \
             them, and a topic with duplicate detection drops what it has taken under the same id within its window."
        }
        (Table::Inbox, Action::Requeue) => {
            "Their handlers run again, with no attempts counted. Within their sessions they come after those that went on \
             without them."
        }
        (Table::Outbox, Action::Discard) => "Their rows are deleted, and nobody will ever receive them.",
        (Table::Inbox, Action::Discard) => {
            "They will never be handled, not even if they are sent again: their keys stay, their rows become discarded."
        }
    }
}

const fn kept(table: Table, action: Action) -> &'static str {
    match (table, action) {
        (Table::Outbox, Action::Discard) => {
            "The reason goes to the service's log, since nothing of the rows is left."
        }
        (Table::Inbox, Action::Discard) => "The reason is added to the rows' last errors.",
        (_, Action::Requeue) => {
            "The reason is added to the rows' last errors, and stays until they fail again."
        }
    }
}

/// Does it.
pub(super) async fn change<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Path(name): Path<String>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let (table, chosen) = (table(&name)?, Chosen::of(fields)?);
    allowed(&app, &visit, &chosen)?;
    let pool = &app.0.pool;
    let (done, changed) = match chosen.action {
        Action::Requeue => {
            let none = Duration::ZERO;
            ("requeued", admin::requeue_because(pool, table, &chosen.seqs, none, &chosen.reason).await?)
        }
        Action::Discard if chosen.reason.trim().is_empty() => {
            return Err(Refusal::Senseless("Discarding is for good: say why. Nothing was changed."));
        }
        Action::Discard => {
            ("discarded", admin::discard_because(pool, table, &chosen.seqs, &chosen.reason).await?)
        }
    };
    let place = format!("/{}?state=dead&done={done}&count={changed}", table.name());
    Ok(visit.go(&place).into_response())
}
