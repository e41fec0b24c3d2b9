//! What an event comes from, and what has come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use sqlx::Pool;

use crate::envelope::EventId;
use crate::storage::{OperatorStorage, RowDetail, RowSummary, StorageError, Table};

/// Causes that are followed up, one from the other.
const LONGEST: usize = 100;
/// Rows of each state that are looked at for what has come of an event: no index knows correlations, since one would cost
/// every publish.
const LOOKED_AT: u32 = 10_000;
/// And how long after its first event what belongs to a chain is looked for.
const SPAN: Duration = Duration::from_secs(24 * 3600);

/// The events of one correlation, as far as they were found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chain {
    /// Causes before what they have caused.
    pub links: Vec<ChainLink>,
    /// How far settled rows were looked at for what has come of these events, by the database's clock. Causes are found by
    /// their ids, however old they are.
    pub searched_until: SystemTime,
}

/// An event of a chain.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChainLink {
    /// Its id.
    pub id: EventId,
    /// How many causes before it were found.
    pub depth: usize,
    /// The event that caused it, found or not.
    pub cause: Option<String>,
    /// Its rows; none where the event is known only as a cause.
    pub rows: Vec<(Table, RowSummary)>,
}

/// An event's causes, by their ids, and what has come of them, among the events of its correlation: at most 10,000 rows of
/// each state are looked at, settled ones within a day from the earliest of these events on. None where neither table has
/// the event.
///
/// # Errors
/// When the database refuses.
pub async fn chain<DB: OperatorStorage>(pool: &Pool<DB>, id: EventId) -> Result<Option<Chain>, StorageError> {
    let mut found = Found::default();
    let mut next = Some(id);
    let mut correlation = None;
    let mut since = None;
    while let Some(id) = next.take() {
        if found.links.contains_key(&id) || found.links.len() == LONGEST {
            break;
        }
        let rows = rows_of(pool, id).await?;
        let Some((_, first)) = rows.first() else { break };
        correlation.get_or_insert_with(|| first.correlation_id.clone());
        next = first.causation_id.as_ref().and_then(|cause| cause.parse().ok());
        for (table, row) in rows {
            let written = row.published_at.unwrap_or(row.summary.written_at).min(row.summary.written_at);
            since = Some(since.map_or(written, |since: SystemTime| since.min(written)));
            found.add(table, row.summary, row.causation_id);
        }
    }
    let Some(since) = since else { return Ok(None) };
    // Whoever published without a correlation is the beginning of one that bears its id.
    let correlation = correlation.flatten().unwrap_or_else(|| id.to_string());
    let mut conn = pool.acquire().await?;
    let mut searched_until = DB::clock(&mut *conn).await?;
    let until = (since + SPAN).min(searched_until + Duration::from_millis(1));
    searched_until = searched_until.min(until);
    for table in [Table::Outbox, Table::Inbox] {
        let related = DB::related(&mut *conn, table, &correlation, since, until, LOOKED_AT).await?;
        for row in related {
            found.add(table, row.summary, row.causation_id);
        }
        let counted = DB::throughput(&mut *conn, table, since, until, LOOKED_AT).await?;
        searched_until = counted.reached.map_or(searched_until, |reached| reached.min(searched_until));
    }
    Ok(Some(Chain { links: found.in_order(), searched_until }))
}

async fn rows_of<DB: OperatorStorage>(
    pool: &Pool<DB>,
    id: EventId,
) -> Result<Vec<(Table, RowDetail)>, StorageError> {
    let published = super::outbox_row(pool, id).await?.map(|row| (Table::Outbox, row));
    let received = super::inbox_rows(pool, id).await?.into_iter().map(|row| (Table::Inbox, row));
    Ok(published.into_iter().chain(received).collect())
}

#[derive(Default)]
struct Found {
    links: BTreeMap<EventId, ChainLink>,
}

impl Found {
    fn add(&mut self, table: Table, row: RowSummary, cause: Option<String>) {
        // Of an event without an id nothing can be said to have caused it.
        if row.known_id().is_none() {
            return;
        }
        let new = || ChainLink { id: row.id, depth: 0, cause: None, rows: Vec::new() };
        let link = self.links.entry(row.id).or_insert_with(new);
        link.cause = link.cause.take().or(cause);
        // One that changed its state while it was looked for is found twice.
        if !link.rows.iter().any(|(known, other)| *known == table && other.owner == row.owner) {
            link.rows.push((table, row));
        }
    }

    /// Depth first, so that what an event has caused stands below it; each level in the order of writing.
    fn in_order(mut self) -> Vec<ChainLink> {
        let mut causes: BTreeMap<Option<EventId>, Vec<(SystemTime, EventId)>> = BTreeMap::new();
        for link in self.links.values() {
            let cause = link.cause.as_ref().and_then(|cause| cause.parse().ok());
            let cause = cause.filter(|cause| self.links.contains_key(cause) && *cause != link.id);
            let written = link.rows.iter().map(|(_, row)| row.written_at).min();
            let written = written.unwrap_or(SystemTime::UNIX_EPOCH);
            causes.entry(cause).or_default().push((written, link.id));
        }
        let mut ordered = Vec::new();
        let mut seen = BTreeSet::new();
        let mut stack = Vec::new();
        let mut push = |stack: &mut Vec<(EventId, usize)>, cause: Option<EventId>, depth| {
            let mut next = causes.remove(&cause).unwrap_or_default();
            next.sort_unstable();
            stack.extend(next.into_iter().rev().map(|(_, id)| (id, depth)));
        };
        push(&mut stack, None, 0);
        while let Some((id, depth)) = stack.pop() {
            if seen.insert(id)
                && let Some(mut link) = self.links.remove(&id)
            {
                link.depth = depth;
                ordered.push(link);
                push(&mut stack, Some(id), depth + 1);
            }
        }
        // Events that name each other as their causes: another program's doing.
        ordered.extend(self.links.into_values());
        ordered
    }
}
