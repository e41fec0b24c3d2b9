//! The handler's transaction and the savepoint that shows whether it is still there (rules 8 and 9).

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, MySql, MySqlConnection, Row, Transaction};

use super::pool::{self, NO_SAVEPOINT, XA_STATE};
use super::row::with_numbers;
use crate::storage::{GuardOutcome, StorageError};

/// What a statement may take beyond the handler's timeout, so that the handler is seen to be late before its statement
/// fails for it.
const MARGIN: Duration = Duration::from_millis(100);

/// The longest timeout that every server takes: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Rolls back first, because SET and START TRANSACTION would commit what a future that was dropped has left behind. The
/// transaction that begins by itself after a lost one has the session's isolation level, so it is the session's.
const BEGIN: &str = "ROLLBACK; SET autocommit = 0{timeouts}; \
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; SAVEPOINT distributed_events_guard";

/// In the order of the two servers: MySQL ends only SELECTs by time, and a frozen holder with the connection's own timeout.
const TIMEOUTS: &str = ", innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds} \
    /*M! , max_statement_time = {milliseconds} / 1000, idle_transaction_timeout = {seconds} */ \
    /*!80019 , max_execution_time = {milliseconds}, wait_timeout = {seconds} */";

/// What comes after on this connection, the commit above all, has all the time it needs.
const RELEASE: &str = "SET @distributed_events_guard = NULL \
    /*M! , max_statement_time = 0 */ /*!80019 , max_execution_time = 0 */; \
    RELEASE SAVEPOINT distributed_events_guard";

/// Tables that the handler locked would keep the next statement from the inbox.
const ROLLBACK: &str = "ROLLBACK; UNLOCK TABLES";

/// Only a mark of this connection's own: by now another instance may have processed the row, and rightly so.
const COMMITTED: &str = "SELECT seq FROM inbox WHERE seq IN ({numbers}) AND marked_by = CONNECTION_ID() \
    AND status = 'processed' LIMIT 1";

pub(super) async fn begin(
    conn: &mut MySqlConnection,
    timeout: Duration,
) -> Result<Transaction<'_, MySql>, StorageError> {
    let timeouts = if timeout == Duration::MAX { String::new() } else { timeouts(timeout) };
    Ok(conn.begin_with(AssertSqlSafe(BEGIN.replace("{timeouts}", &timeouts))).await?)
}

fn timeouts(timeout: Duration) -> String {
    let allowed = timeout.saturating_add(MARGIN).min(LONGEST);
    TIMEOUTS
        .replace("{seconds}", &pool::seconds(allowed).to_string())
        .replace("{milliseconds}", &allowed.as_millis().to_string())
}

/// A transaction that ended took the savepoint with it. One that lives is whole: a failed statement undoes itself and
/// nothing else, or the whole transaction.
pub(super) async fn close(conn: &mut MySqlConnection, marked: &[i64]) -> Result<GuardOutcome, StorageError> {
    // The first answer may be that to a statement which was cut off.
    let mut answers = 2;
    loop {
        answers -= 1;
        match sqlx::raw_sql(RELEASE).execute(&mut *conn).await {
            Ok(_) => return Ok(GuardOutcome::Whole),
            Err(error) => match pool::number(&error) {
                Some(NO_SAVEPOINT) => return lost(conn, marked).await,
                // Begun by the handler, which it could not in our transaction.
                Some(XA_STATE) => return Ok(GuardOutcome::Ended),
                Some(_) if answers > 0 => {}
                _ => return Err(error.into()),
            },
        }
    }
}

/// After a deadlock the mark is gone, and with autocommit off so is all that followed once it is rolled back. After a
/// commit, by DDL or the handler's own, the mark is there.
async fn lost(conn: &mut MySqlConnection, marked: &[i64]) -> Result<GuardOutcome, StorageError> {
    let autocommit: i64 =
        sqlx::raw_sql("SELECT CAST(@@autocommit AS SIGNED)").fetch_one(&mut *conn).await?.try_get(0)?;
    if let Err(error) = sqlx::raw_sql(ROLLBACK).execute(&mut *conn).await {
        return if pool::number(&error) == Some(XA_STATE) {
            Ok(GuardOutcome::Ended)
        } else {
            Err(error.into())
        };
    }
    // With autocommit on, which is the handler's doing, what followed is durable, as is what followed by a mark that
    // nobody can be asked about.
    if autocommit != 0 || marked.is_empty() {
        return Ok(GuardOutcome::Ended);
    }
    let sql = AssertSqlSafe(with_numbers(COMMITTED, marked));
    let committed = sqlx::raw_sql(sql).fetch_all(conn).await?;
    Ok(if committed.is_empty() { GuardOutcome::Broken } else { GuardOutcome::Ended })
}
