//! The guarded transaction: mark, handlers, guard, commit (SEMANTICS.md, rules 8 to 13).

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::Transaction;
use tokio::time::Instant;
use tracing::Instrument;

use super::handler::{HandlerScope, States};
use super::route::Route;
use super::runs::Runs;
use crate::context::EventContext;
use crate::error::HandlerError;
use crate::simulated::Turn;
use crate::storage::{Connections, GuardOutcome, InboxRow, Storage, StorageError, Trouble};
use crate::{crash, wake};

/// How long a connection may take to say whether its transaction lives after a handler was cut off.
const VERDICT_WAIT: Duration = Duration::from_millis(500);

/// What came of running handlers in a transaction.
#[derive(Debug)]
pub(crate) enum Ran {
    /// Committed.
    Committed,
    /// Rolled back, because a handler failed or what it left could not be committed.
    Failed(HandlerError),
    /// Rolled back, because the database was in trouble; not the handler's fault.
    Trouble(String),
    /// The handler ended the transaction: what followed may be durable.
    Ended(String),
    /// The row was not pending any more: another has dealt with it.
    Stale,
    /// Another transaction holds the row, perhaps one of a holder that is frozen; no handler has run.
    Held,
}

/// Events to be handled in one transaction, with their routes.
pub(crate) struct Work<'a, DB: Storage> {
    pub(crate) subscription: &'a str,
    pub(crate) rows: &'a [(&'a InboxRow, &'a Route<DB>)],
    pub(crate) states: &'a States,
    pub(crate) timeout: Duration,
}

/// Runs the handlers of one or several rows in a transaction that also marks them as processed.
pub(super) async fn run<'a, DB: Storage>(
    connections: &Connections<DB>,
    work: &Work<'a, DB>,
    runs: &mut Runs<'a>,
) -> Result<Ran, StorageError> {
    connections.life().handling().await;
    let mut conn = connections.write().await?;
    // Unless everything went well; also when this future is dropped.
    conn.close_unless_kept();
    // A timeout of the connection's own would outlive a handler that is dropped, where the connection can't be closed.
    // Nor does one in real time go with a simulation's.
    let simulated = conn.simulated();
    let allowed = if conn.can_close() && !simulated.is_simulated() { work.timeout } else { Duration::MAX };
    let ran = run_on(&mut *conn, work, allowed, &simulated, runs).await?;
    runs.ran(&ran);
    match ran {
        Ran::Committed | Ran::Stale | Ran::Held => conn.keep(),
        Ran::Failed(ref error) if !error.is_timeout() => conn.keep(),
        _ => {}
    }
    Ok(ran)
}

async fn run_on<'a, DB: Storage>(
    conn: &mut DB::Connection,
    work: &Work<'a, DB>,
    allowed: Duration,
    simulated: &Turn,
    runs: &mut Runs<'a>,
) -> Result<Ran, StorageError> {
    crash::point("processor.before-mark");
    let mut tx = DB::begin_guarded(conn, allowed).await?;
    let begun = Instant::now();
    let seqs: Vec<_> = work.rows.iter().map(|(row, _)| row.seq).collect();
    let marked = match DB::mark_processed(&mut tx, &seqs).await {
        Ok(marked) => marked,
        // The database has answered, so it is this row that can't be had and not the connection.
        Err(StorageError::Database(error @ sqlx::Error::Database(_)))
            if DB::trouble(&error) == Trouble::Passing =>
        {
            tx.rollback().await?;
            return Ok(Ran::Held);
        }
        Err(error) => return Err(error),
    };
    crash::point("processor.marked");
    if marked != seqs.len() as u64 && !crash::is_broken("guard") {
        simulated.say(|| "finds that another has dealt with it".to_owned());
        tx.rollback().await?;
        return Ok(Ran::Stale);
    }
    let handlers = async {
        let result = run_handlers(&mut tx, work, simulated, runs).await;
        simulated.handled().await;
        result
    };
    let handlers = AssertUnwindSafe(handlers).catch_unwind();
    let (outcome, published) = wake::noting(tokio::time::timeout(work.timeout, handlers)).await;
    simulated.go_on().await;
    let result = match outcome {
        // Its statement was ended because it was late, and that is not the database's trouble.
        Ok(Ok(Err(_))) if begun.elapsed() > work.timeout => Err(HandlerError::timed_out(work.timeout)),
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(HandlerError::panicked(panic.as_ref())),
        Err(_elapsed) => Err(HandlerError::timed_out(work.timeout)),
    };
    let guard = match &result {
        Err(error) if error.is_timeout() => {
            // The connection may still be busy with what was cut off; then it is closed and the database rolls back.
            // Where it can't say either, a mark that was committed all the same refuses the attempt.
            match tokio::time::timeout(VERDICT_WAIT, DB::close_guard(&mut tx, &seqs)).await {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(_)) | Err(_) => Ok(GuardOutcome::Broken),
            }
        }
        _ => DB::close_guard(&mut tx, &seqs).await,
    }?;
    match (result, guard) {
        (Ok(()), GuardOutcome::Whole) => {
            crash::point("processor.before-commit");
            let committed = tx.commit().await;
            crash::point("processor.after-commit");
            let committed = match committed {
                Ok(()) => simulated.committed().await,
                Err(error) => Err(error),
            };
            match committed {
                Ok(()) => {
                    if published {
                        wake::committed();
                    }
                    Ok(Ran::Committed)
                }
                Err(error) if DB::trouble(&error) == Trouble::Passing => Err(error.into()),
                Err(error) => Ok(Ran::Failed(format!("the commit was refused: {error}").into())),
            }
        }
        (Ok(()), GuardOutcome::Broken) => {
            tx.rollback().await?;
            Ok(Ran::Failed(
                "the handler returned Ok although a statement of its transaction had failed: return that error".into(),
            ))
        }
        (Err(error), GuardOutcome::Ended) => match error.database_error() {
            // The database itself rolled back (disk full, I/O error) and the handler said so at once.
            Some(database) if DB::trouble(database) == Trouble::Passing => Ok(Ran::Trouble(error.text())),
            _ => Ok(Ran::Ended(format!("handler ended the transaction, then failed: {}", error.text()))),
        },
        (Ok(()), GuardOutcome::Ended) => Ok(Ran::Ended("handler ended the transaction".to_owned())),
        (Err(error), GuardOutcome::Whole | GuardOutcome::Broken) => {
            if !error.is_timeout() {
                tx.rollback().await?;
            }
            Ok(match error.database_error() {
                Some(database) if DB::trouble(database) == Trouble::Passing => Ran::Trouble(error.text()),
                _ => Ran::Failed(error),
            })
        }
    }
}

async fn run_handlers<'a, DB: Storage>(
    tx: &mut Transaction<'_, DB>,
    work: &Work<'a, DB>,
    simulated: &Turn,
    runs: &mut Runs<'a>,
) -> Result<(), HandlerError> {
    for (row, route) in work.rows {
        let event = &row.event;
        simulated.say(|| format!("handles {} {}, attempt {}", event.name, event.id, row.attempts + 1));
        let context = EventContext {
            id: event.id,
            subscription: work.subscription.to_owned(),
            name: event.name.clone(),
            version: event.version,
            session_id: event.session_id.clone(),
            correlation_id: event.correlation_id.clone(),
            causation_id: event.causation_id.clone(),
            attempt: row.attempts + 1,
            headers: event.headers.clone(),
            created_at: event.created_at,
            received_at: row.received_at,
        };
        let scope = HandlerScope { context: &context, states: work.states };
        let span = runs.begin(row);
        for handler in &route.handlers {
            let body = event.body.as_bytes();
            // In the scope from the call on: a closure may publish before it returns its future.
            let run = async { handler.run(event.version, body, &mut *tx, scope).await };
            context.correlation().scope(run).instrument(span.clone()).await?;
        }
        runs.returned();
    }
    Ok(())
}
