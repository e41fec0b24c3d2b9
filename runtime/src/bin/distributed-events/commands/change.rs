//! Requeue, discard, replay: what is done to rows, by id or by what is known of them.

use std::collections::BTreeSet;

use distributed_events::admin::{self, RowState, Table};
use distributed_events::storage::OperatorStorage;
use distributed_events::{EventId, StorageError};
use serde_json::json;
use sqlx::Pool;

use super::{detail, list};
use crate::arguments::{Change, Replay, Requeue, Selection};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{self, Format, rows};
use crate::progress::Progress;

/// Rows that are changed in one transaction.
const SLICE: usize = 500;

/// Rows of a page while they are looked for.
const PAGE: u32 = 1_000;

pub(super) async fn requeue<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    arguments: &Requeue,
    format: Format,
) -> Result<(), Failure> {
    let seqs = dead(pool, table, &arguments.rows).await?;
    let order = match table {
        Table::Outbox => {
            "within their sessions they come after those that went on without them, and a topic with duplicate detection drops \
             what it has taken under the same id within its window"
        }
        Table::Inbox => "within their sessions they come after those that went on without them",
    };
    let question = format!("Requeue {}? {order}.", rows(seqs.len() as u64));
    if !seqs.is_empty() {
        confirm(&question, arguments.rows.yes)?;
    }
    let (delay, reason) = (arguments.delay, &arguments.rows.reason);
    let requeue = async |slice: &[i64]| admin::requeue_because(pool, table, slice, delay, reason).await;
    let done = in_slices("requeued", &seqs, requeue).await?;
    tell("requeued", done, format)
}

pub(super) async fn discard<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    arguments: &Change,
    format: Format,
) -> Result<(), Failure> {
    let seqs = dead(pool, table, arguments).await?;
    let meaning = match table {
        Table::Outbox => "They are deleted, and nobody will ever receive them",
        Table::Inbox => "They will never be handled, not even if they are sent again",
    };
    if !seqs.is_empty() {
        confirm(&format!("Discard {} for good? {meaning}.", rows(seqs.len() as u64)), arguments.yes)?;
    }
    let discard = async |slice: &[i64]| admin::discard_because(pool, table, slice, &arguments.reason).await;
    let done = in_slices("discarded", &seqs, discard).await?;
    tell("discarded", done, format)
}

pub(super) async fn replay<DB: OperatorStorage>(
    pool: &Pool<DB>,
    arguments: &Replay,
    format: Format,
) -> Result<(), Failure> {
    let selection = Selection {
        event: arguments.event.clone(),
        session: arguments.session.clone(),
        of: Some(arguments.subscription.clone()),
        error: None,
        since: arguments.since,
        until: arguments.until,
    };
    let seqs = if arguments.ids.is_empty() {
        matching(pool, Table::Inbox, RowState::Settled, &selection).await?
    } else {
        let alone = Selection { of: None, ..selection.clone() };
        if !alone.is_empty() {
            return Err(both());
        }
        by_id(pool, Table::Inbox, "processed", &arguments.ids, &selection).await?
    };
    let question = format!(
        "Run the handlers of {} again for {}? Their effects happen a second time, out of their sessions' order.",
        arguments.subscription,
        rows(seqs.len() as u64)
    );
    if !seqs.is_empty() {
        confirm(&question, arguments.yes)?;
    }
    let done = in_slices("replayed", &seqs, async |slice| admin::replay(pool, slice).await).await?;
    let without = seqs.len() as u64 - done;
    if without > 0 {
        output::note(&format!("{} had no body any more, or had changed meanwhile", rows(without)));
    }
    tell("replayed", done, format)
}

fn both() -> Failure {
    Failure::Usage("say ids or filters, not both: ids name the rows already".to_owned())
}

/// Slice by slice, so that nobody waits long for a lock.
async fn in_slices(
    what: &'static str,
    seqs: &[i64],
    change: impl AsyncFn(&[i64]) -> Result<u64, StorageError>,
) -> Result<u64, Failure> {
    let mut progress = Progress::new(what);
    let mut done = 0;
    for slice in seqs.chunks(SLICE) {
        let changed = change(slice).await;
        done += changed.map_err(|error| so_far(what, done, seqs.len(), error))?;
        progress.at(done, Some((done, seqs.len() as u64)));
    }
    Ok(done)
}

/// What was done stays done when the rest fails, and has to be said.
fn so_far(what: &str, done: u64, all: usize, error: StorageError) -> Failure {
    if done == 0 {
        return error.into();
    }
    Failure::Failed(format!(
        "{what}: {} of {}, and then: {}; say it again for the rest",
        rows(done),
        rows(all as u64),
        Failure::from(error)
    ))
}

fn tell(what: &str, count: u64, format: Format) -> Result<(), Failure> {
    match format {
        Format::People => output::say(&format!("{what}: {}", rows(count))),
        Format::Json => output::json(&json!({ what: count })),
    }
}

async fn dead<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    arguments: &Change,
) -> Result<Vec<i64>, Failure> {
    if !arguments.ids.is_empty() {
        let alone = Selection { of: None, ..arguments.selection.clone() };
        if !alone.is_empty() {
            return Err(both());
        }
        return by_id(pool, table, "dead", &arguments.ids, &arguments.selection).await;
    }
    if arguments.selection.is_empty() && !arguments.all {
        return Err(Failure::Usage(
            "say which: ids, filters such as --event and --error, or --all for every dead row".to_owned(),
        ));
    }
    matching(pool, table, RowState::Dead, &arguments.selection).await
}

/// All rows that the filters let through, page by page.
async fn matching<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    state: RowState,
    selection: &Selection,
) -> Result<Vec<i64>, Failure> {
    let mut filter = list::filter(state, selection, admin::clock(pool).await?);
    filter.limit = PAGE;
    let mut seqs = Vec::new();
    let mut progress = Progress::new("found");
    loop {
        let page = admin::list_rows(pool, table, &filter).await?;
        seqs.extend(page.iter().map(|row| row.seq));
        progress.at(seqs.len() as u64, None);
        match page.last() {
            Some(last) if page.len() as u64 == u64::from(PAGE) => filter.after = Some(last.cursor.clone()),
            _ => return Ok(seqs),
        }
    }
}

/// Rows by their events' ids. All have to be there and in this state, or nothing is done: a list may be old, or of another
/// database.
async fn by_id<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    state: &str,
    ids: &[EventId],
    selection: &Selection,
) -> Result<Vec<i64>, Failure> {
    let (mut seqs, mut wrong) = (BTreeSet::new(), Vec::new());
    for &id in ids {
        let found = detail::find(pool, table, id).await?;
        let mut states = Vec::new();
        for row in found.into_iter().map(|row| row.summary) {
            if selection.of.as_ref().is_some_and(|of| *of != row.owner) {
                continue;
            }
            if row.state == state {
                seqs.insert(row.seq);
            }
            states.push(row.state);
        }
        if states.is_empty() {
            wrong.push(format!("{id} is not there"));
        } else if !states.iter().any(|found| found == state) {
            wrong.push(format!("{id} is {}, not {state}", states.join(" and ")));
        }
    }
    if wrong.is_empty() {
        return Ok(seqs.into_iter().collect());
    }
    Err(Failure::Differs(format!("nothing was done, because\n  {}", wrong.join("\n  "))))
}
