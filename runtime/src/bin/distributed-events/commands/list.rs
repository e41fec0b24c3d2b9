//! Rows, a line each.

use std::time::{Duration, SystemTime};

use distributed_events::admin::{self, RowFilter, RowState, RowSummary, Table};
use distributed_events::storage::OperatorStorage;
use serde_json::{Value, json};
use sqlx::Pool;

use crate::arguments::{List, Selection, Wanted};
use crate::failure::Failure;
use crate::output::{self, Format, short};
use crate::when::{exact, time};

/// How far back settled rows are looked for, where nothing is said.
const RECENT: Duration = Duration::from_secs(3_600);

pub(super) async fn run<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    arguments: &List,
    format: Format,
) -> Result<(), Failure> {
    let state = state_of(table, arguments.state)?;
    let mut filter = filter(state, &arguments.selection, admin::clock(pool).await?);
    filter.limit = arguments.limit;
    if let Some(place) = &arguments.after {
        let place = place.parse().map_err(|error| Failure::Usage(format!("--after {place}: {error}")))?;
        filter.after = Some(place);
    }
    let rows = admin::list_rows(pool, table, &filter).await?;
    let is_full = rows.len() as u64 == u64::from(arguments.limit);
    let next = rows.last().filter(|_| is_full).map(|row| row.cursor.to_string());
    match format {
        Format::Json => {
            let rows: Vec<_> = rows.iter().map(|row| summary(row, table)).collect();
            output::json(&json!({ "rows": rows, "next": next }))
        }
        Format::People if rows.is_empty() => output::say("no such rows"),
        Format::People => {
            output::say(&lines(&rows, table))?;
            if let Some(next) = next {
                output::note(&format!("there may be more: --after '{}'", output::clean(&next)));
            }
            Ok(())
        }
    }
}

fn state_of(table: Table, wanted: Wanted) -> Result<RowState, Failure> {
    Ok(match (table, wanted) {
        (_, Wanted::Pending) => RowState::Pending,
        (_, Wanted::Dead) => RowState::Dead,
        (Table::Outbox, Wanted::Delayed) => RowState::Delayed,
        (Table::Outbox, Wanted::Sent) | (Table::Inbox, Wanted::Processed) => RowState::Settled,
        (Table::Outbox, Wanted::Processed) => {
            return Err(Failure::Usage("outbox rows end `sent`: say --state sent".to_owned()));
        }
        (Table::Inbox, Wanted::Sent) => {
            return Err(Failure::Usage("inbox rows end `processed`: say --state processed".to_owned()));
        }
        (Table::Inbox, Wanted::Delayed) => {
            return Err(Failure::Usage(
                "no inbox row is delayed: what waits for another attempt is pending, say --state pending"
                    .to_owned(),
            ));
        }
    })
}

/// The filter of a selection, where it is this time by the database's clock.
pub(super) fn filter(state: RowState, selection: &Selection, now: SystemTime) -> RowFilter {
    let until = selection.until.map(|until| until.before(now));
    let mut filter = match selection.since {
        Some(since) => RowFilter::new(state, since.before(now)),
        None if state == RowState::Settled => {
            let recent = until.unwrap_or(now).checked_sub(RECENT).unwrap_or(SystemTime::UNIX_EPOCH);
            RowFilter::new(state, recent)
        }
        None => RowFilter::whenever(state),
    };
    filter.owner.clone_from(&selection.of);
    filter.event.clone_from(&selection.event);
    filter.session.clone_from(&selection.session);
    filter.error.clone_from(&selection.error);
    filter.until = until;
    filter
}

/// What the owner of a row is called in this table.
pub(super) const fn owner_of(table: Table) -> &'static str {
    match table {
        Table::Outbox => "lane",
        Table::Inbox => "subscription",
    }
}

fn lines(rows: &[RowSummary], table: Table) -> String {
    let owner = match table {
        Table::Outbox => "LANE",
        Table::Inbox => "SUBSCRIPTION",
    };
    let lines = rows.iter().map(|row| {
        let error = match row.trouble(table) {
            // Whole: what is to be done stands at its end.
            Some(trouble) => trouble,
            None => short(row.error.as_deref().unwrap_or_default(), 60),
        };
        [
            row.known_id().map_or_else(|| format!("(seq {})", row.seq), |id| id.to_string()),
            row.event.clone(),
            row.owner.clone(),
            row.session_id.clone().unwrap_or_default(),
            row.attempts.to_string(),
            time(row.settled_at.unwrap_or(row.written_at)),
            row.due_at.map(time).unwrap_or_default(),
            error,
        ]
    });
    output::table(["ID", "EVENT", owner, "SESSION", "ATTEMPTS", "SINCE", "DUE", "LAST ERROR"], lines)
}

/// A row for scripts.
pub(super) fn summary(row: &RowSummary, table: Table) -> Value {
    json!({
        "id": row.known_id().map(|id| id.to_string()),
        "seq": row.seq,
        owner_of(table): row.owner,
        "event": row.event,
        "version": row.version,
        "session": row.session_id,
        "state": row.state,
        "attempts": row.attempts,
        "written_at": exact(row.written_at),
        "settled_at": row.settled_at.map(exact),
        "due_at": row.due_at.map(exact),
        "error": row.error,
        "unreadable": row.unreadable,
    })
}
