//! Assertions on a service under test, whose failures show what has happened instead.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::LocalBoxFuture;
use sqlx::SqlitePool;

use super::world::SimulationError;
use crate::envelope::Envelope;
use crate::storage::StorageError;

/// So much is shown of one event's data, in characters.
const SHOWN_OF_DATA: usize = 200;
/// So many events are shown of each kind.
const SHOWN: usize = 20;

/// What is not at its end, or at a bad one: inbox first, in the order of coming.
const NOT_DONE: &str = "SELECT 'in the inbox of ' || subscription AS place, event_type, event_data, status, attempts, last_error \
    FROM (SELECT * FROM inbox WHERE status IN ('pending', 'dead') ORDER BY seq) \
    UNION ALL SELECT 'in the outbox', event_type, event_data, status, attempts, last_error \
    FROM (SELECT * FROM outbox WHERE status IN ('pending', 'dead') ORDER BY seq)";

type NotDone = (String, String, Option<String>, String, u32, Option<String>);

/// An assertion, which is made when it is awaited.
#[must_use = "it asserts when it is awaited"]
pub struct Asserting<'a> {
    /// What is wrong, if anything.
    look: LocalBoxFuture<'a, Result<Option<String>, SimulationError>>,
}

impl<'a> Asserting<'a> {
    pub(super) fn new(look: impl Future<Output = Result<Option<String>, SimulationError>> + 'a) -> Self {
        Self { look: Box::pin(look) }
    }
}

impl Future for Asserting<'_> {
    type Output = Result<(), SimulationError>;

    /// Fails where it is awaited: that is the line which a reader is to see.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(self.look.as_mut().poll(context))? {
            Some(wrong) => panic!("{wrong}"),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Debug for Asserting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asserting").finish_non_exhaustive()
    }
}

/// What has happened so far, for whoever reads of a failure: what was published, and what waits or is dead.
pub(super) async fn account(
    pool: &SqlitePool,
    published: &[Envelope],
    at_broker: usize,
) -> Result<String, StorageError> {
    let not_done: Vec<NotDone> = sqlx::query_as(NOT_DONE).fetch_all(pool).await?;
    let (dead, pending): (Vec<_>, Vec<_>) =
        not_done.into_iter().partition(|(_, _, _, status, ..)| status == "dead");
    let mut kinds = Vec::new();
    if at_broker > 0 {
        kinds.push(vec![format!("pending at the broker: {at_broker} messages")]);
    }
    kinds.push(pending.into_iter().map(told).collect());
    let waits = kinds.iter().any(|kind| !kind.is_empty());
    kinds.push(dead.into_iter().map(told).collect());
    let data = |event: &Envelope| format!("published: {} {}", event.name, shortened(&event.data));
    kinds.insert(0, published.iter().map(data).collect());
    if kinds.iter().all(Vec::is_empty) {
        return Ok("\n  nothing was published, nothing is pending, nothing is dead".to_owned());
    }
    let mut account: String = kinds.iter().map(|lines| listed(lines)).collect();
    if waits {
        account.push_str("\n  (what is pending goes on with `settled` or `let_pass`)");
    }
    Ok(account)
}

fn told((place, event, data, status, attempts, error): NotDone) -> String {
    let data = data.unwrap_or_default();
    let error = error.map(|error| format!(", after {attempts} attempts: {error}")).unwrap_or_default();
    format!("{status} {place}: {event} {}{error}", shortened(&data))
}

/// Lines, of which only the first are shown where there are many.
fn listed(lines: &[String]) -> String {
    let mut listed: String = lines.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect();
    if lines.len() > SHOWN {
        listed.push_str(&format!("\n  and {} more", lines.len() - SHOWN));
    }
    listed
}

fn shortened(data: &str) -> String {
    match data.char_indices().nth(SHOWN_OF_DATA) {
        Some((end, _)) => format!("{}…", &data[..end]),
        None => data.to_owned(),
    }
}
