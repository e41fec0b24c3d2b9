//! The handler's transaction and the savepoint that shows whether it is still there (rules 8 and 9).

use std::time::Duration;

use sqlx::{PgConnection, Postgres, Row, Transaction};

use super::pool::{self, code};
use super::row::millis;
use crate::storage::{GuardOutcome, StorageError};

/// What a statement may take beyond the handler's timeout, so that the handler is seen to be late before its statement
/// fails for it.
const MARGIN: Duration = Duration::from_millis(100);

/// The same for a silent transaction. It ends with its connection, so that there must be time to end it otherwise.
const IDLE_MARGIN: Duration = Duration::from_secs(2);

/// How long a mark waits for a row that another holds: what lasts longer is no accident, and blocks its session (rule 3).
const MARK_WAIT: Duration = Duration::from_millis(500);

/// The longest timeout that PostgreSQL knows.
const LONGEST: i64 = i32::MAX as i64;

/// Settings and savepoint in one round trip. After the mark, [`marked`] lets statements wait for locks as long as the handler
/// may; a statement could not do so itself, nor can one with arguments have company.
pub(super) async fn begin(
    conn: &mut PgConnection,
    timeout: Duration,
) -> Result<Transaction<'_, Postgres>, StorageError> {
    let allowed = |margin| timeout.checked_add(margin).map_or(0, millis).min(LONGEST);
    let sql = format!(
        "; SET LOCAL lock_timeout = {mark_wait}; SET LOCAL distributed_events.lock_timeout = {statement}; \
         SET LOCAL statement_timeout = {statement}; SET LOCAL idle_in_transaction_session_timeout = {idle}; \
         SAVEPOINT distributed_events_guard",
        mark_wait = millis(MARK_WAIT),
        statement = allowed(MARGIN),
        idle = allowed(IDLE_MARGIN),
    );
    pool::begin_with(conn, &sql).await
}

/// What a mark returns beside its number: it ends the short wait for locks, makes the commit wait for the disk (rule 17) where
/// a statement of its own would be planned for each event, and leaves a sign that a handler's rollback to a savepoint before
/// it takes back too.
macro_rules! marked {
    () => {
        "set_config('lock_timeout', coalesce(nullif(current_setting('distributed_events.lock_timeout', true), ''), \
        current_setting('lock_timeout')), true), set_config('distributed_events.marked', 'yes', true), \
        CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') \
        THEN set_config('synchronous_commit', 'on', true) END"
    };
}
pub(super) use marked;

const CLOSE: &str = "RELEASE SAVEPOINT distributed_events_guard; \
    SELECT coalesce(current_setting('distributed_events.marked', true), '') = 'yes' AS marked, \
    coalesce(current_setting('distributed_events.lock_timeout', true), '') <> '' AS guarded";

const IN_FAILED_TRANSACTION: &str = "25P02";
const NO_ACTIVE_TRANSACTION: &str = "25P01";
const NO_SUCH_SAVEPOINT: &str = "3B001";

/// A statement's error breaks the transaction as a whole; a COMMIT would answer ROLLBACK, which sqlx takes for success.
pub(super) async fn close(conn: &mut PgConnection, marked: &[i64]) -> Result<GuardOutcome, StorageError> {
    // The first answer may be that to a statement which was cut off.
    for _ in 0..3 {
        match sqlx::raw_sql(CLOSE).fetch_one(&mut *conn).await {
            Ok(row) => {
                let (is_marked, is_guarded): (bool, bool) = (row.try_get("marked")?, row.try_get("guarded")?);
                return Ok(match (marked.is_empty() || is_marked, is_guarded) {
                    (true, true) => GuardOutcome::Whole,
                    // Rolled back to the guard, with the mark and what had been done, and gone on from there.
                    (false, true) => GuardOutcome::Broken,
                    // Ended, begun again and given a savepoint of the same name.
                    (_, false) => GuardOutcome::Ended,
                });
            }
            Err(error) => match code(&error).as_deref() {
                Some(IN_FAILED_TRANSACTION) => return Ok(GuardOutcome::Broken),
                Some(NO_ACTIVE_TRANSACTION | NO_SUCH_SAVEPOINT) => return Ok(GuardOutcome::Ended),
                Some(_) => {}
                None => return Err(error.into()),
            },
        }
    }
    Ok(GuardOutcome::Broken)
}
