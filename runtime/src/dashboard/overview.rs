//! The first page: how much waits, how it goes, what ended dead.

use std::fmt;
use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::charts::{self, Window};
use super::page::{Place, Refusal};
use super::visit::Visit;
use super::words::{number, query, span, time};
use super::{App, Shared, lists};
use crate::admin::{
    self, InboxCounts, OutboxCounts, RowFilter, RowState, RowSummary, StateCounts, Table, Throughput,
};
use crate::storage::OperatorStorage;

/// However many look, and however often, the database counts no more often than this.
const FRESH: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
const LATEST_DEAD: u32 = 8;

#[derive(Clone)]
struct Depths {
    now: SystemTime,
    outbox: OutboxCounts,
    inbox: InboxCounts,
    sent: Throughput,
    processed: Throughput,
}

/// The depths as they were last counted.
#[derive(Default)]
pub(super) struct Known(Mutex<Option<(Instant, Depths)>>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

async fn depths<DB: OperatorStorage>(shared: &Shared<DB>) -> Result<Depths, Refusal> {
    let mut known = shared.depths.0.lock().await;
    if let Some((at, depths)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        let _counted_at = at;
        return Ok(depths.clone());
    }
    let pool = &shared.pool;
    let depths = Depths {
        now: admin::clock(pool).await?,
        outbox: admin::count_outbox(pool).await?,
        inbox: admin::count_inbox(pool).await?,
        sent: admin::throughput(pool, Table::Outbox, MINUTE).await?,
        processed: admin::throughput(pool, Table::Inbox, MINUTE).await?,
    };
    *known = Some((Instant::now(), depths.clone()));
    Ok(depths)
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    window: String,
}

pub(super) async fn show<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Query(asked): Query<Asked>,
    visit: Visit,
) -> Result<Response, Refusal> {
    let window = Window::of(&asked.window);
    let depths = depths(&app.0).await?;
    let history = charts::history(&app.0, window).await?;
    let (mut dead_outbox, dead_inbox) =
        (latest_dead(&app.0, Table::Outbox).await?, latest_dead(&app.0, Table::Inbox).await?);
    dead_outbox.extend(dead_inbox);
    let main = html! {
        div.head {
            div { h1 { "Overview" } p.sub { "As the database has it." } }
            div.spans role="group" aria-label="The charts' time" {
                @for each in Window::ALL {
                    a href=(format!("{}/?{}", visit.base, query(&[("window", each.name())]))) aria-current=[(each == window).then_some("true")] { (each.name()) }
                }
                button type="button" data-pause hidden aria-pressed="false" { "Pause live updates" }
            }
        }
        div #depths data-live { (tiles(&depths)) }
        div.grid #charts data-live { (charts::shown(&history, window)) }
        div.grid #owners data-live {
            (owners(&visit, Table::Outbox, "Lanes", &depths.outbox.lanes))
            (owners(&visit, Table::Inbox, "Subscriptions", &depths.inbox.subscriptions))
        }
        section.panel #dead data-live {
            h2 { "Dead events, the oldest of each table" }
            @if dead_outbox.is_empty() { p.muted { "There are none." } }
            @else {
                (lists::brief(&visit, &app.0.payloads, &dead_outbox))
                p { a href=(format!("{}/outbox?state=dead", visit.base)) { "All of the outbox" } " · " a href=(format!("{}/inbox?state=dead", visit.base)) { "all of the inbox" } }
            }
        }
        p.muted #read-at data-live { "Read at " (time(depths.now)) " UTC, by the database's clock." }
    };
    Ok(visit.page("Overview", Place::Overview, &main))
}

async fn latest_dead<DB: OperatorStorage>(
    shared: &Shared<DB>,
    table: Table,
) -> Result<Vec<(Table, RowSummary)>, Refusal> {
    let mut filter = RowFilter::whenever(RowState::Dead);
    filter.limit = LATEST_DEAD;
    let rows = admin::list_rows(&shared.pool, table, &filter).await?;
    Ok(rows.into_iter().map(|row| (table, row)).collect())
}

fn tiles(depths: &Depths) -> Markup {
    let sum = |counts: &mut dyn Iterator<Item = &StateCounts>| {
        counts.fold((0, 0, None), |(pending, dead, oldest), one: &StateCounts| {
            (pending + one.pending, dead + one.dead, one.oldest_pending.max(oldest))
        })
    };
    let outbox = sum(&mut depths.outbox.lanes.values());
    let inbox = sum(&mut depths.inbox.subscriptions.values());
    let owed: u64 = depths.outbox.owed.values().sum();
    html! {
        dl.tiles {
            (tile("Outbox, pending", &number(outbox.0), waits(outbox.2).as_deref(), ""))
            (tile("Sent in the last minute", &number(depths.sent.settled), lag(&depths.sent).as_deref(), ""))
            (tile("Outbox, dead", &number(outbox.1), None, if outbox.1 > 0 { "bad" } else { "" }))
            (tile("Inbox, pending", &number(inbox.0), waits(inbox.2).as_deref(), ""))
            (tile("Processed in the last minute", &number(depths.processed.settled), lag(&depths.processed).as_deref(), ""))
            (tile("Inbox, dead", &number(inbox.1), None, if inbox.1 > 0 { "bad" } else { "" }))
            @if owed > 0 { (tile("Owed to local subscriptions", &number(owed), Some("their databases are away"), "warn")) }
        }
    }
}

fn waits(oldest: Option<Duration>) -> Option<String> {
    oldest.map(|oldest| format!("oldest waits {}", span(oldest)))
}

fn lag(throughput: &Throughput) -> Option<String> {
    throughput.mean_lag.map(|lag| format!("waited {} on average", span(lag)))
}

fn tile(name: &str, value: &str, small: Option<&str>, class: &str) -> Markup {
    html! {
        div class={ "tile " (class) } {
            dt { (name) }
            dd { (value) @if let Some(small) = small { small { (small) } } }
        }
    }
}

fn owners(
    visit: &Visit,
    table: Table,
    title: &str,
    counts: &std::collections::BTreeMap<String, StateCounts>,
) -> Markup {
    let (name, key) = lists::owner_words(table);
    let link = |owner: &str, state: &str| {
        format!("{}/{}?{}", visit.base, table.name(), query(&[("state", state), (key, owner)]))
    };
    html! {
        section.panel {
            h2 { (title) }
            @if counts.is_empty() { p.muted { "Nothing waits, and nothing is dead." } }
            @else {
                div.scroll tabindex="0" role="group" aria-label=(title) {
                    table {
                        thead { tr { th scope="col" { (name) } th.n scope="col" { "Pending" } th.n scope="col" { "Dead" } th.n scope="col" { "Oldest pending" } } }
                        tbody {
                            @for (owner, counts) in counts {
                                tr {
                                    th.break scope="row" { (super::words::visible(owner)) }
                                    td.n { a href=(link(owner, "pending")) { (number(counts.pending)) } }
                                    td.n { a href=(link(owner, "dead")) { (number(counts.dead)) } }
                                    td.n { @match counts.oldest_pending { Some(oldest) => (span(oldest)), None => "–" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
