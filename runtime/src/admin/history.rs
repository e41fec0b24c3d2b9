//! How it went over the last hours, in equal spans of time.

use std::time::{Duration, SystemTime};

use sqlx::Pool;

use crate::storage::{OperatorStorage, StorageError, Table};

/// Rows of a span that are counted; where there are more, each of its parts is estimated from so many parts of that.
const COUNTED: u32 = 10_000;
const PARTS: u32 = 5;

/// What was settled in a span of time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Span {
    /// From then on.
    pub since: SystemTime,
    /// Until before then.
    pub until: SystemTime,
    /// Rows that were sent (outbox) or processed (inbox).
    pub settled: u64,
    /// Whether that is an estimate: more than 10,000 rows are not counted.
    pub estimated: bool,
    /// How long the last 100 of them had waited, on average.
    pub mean_lag: Option<Duration>,
    /// And the longest of these waits.
    pub longest_lag: Option<Duration>,
}

/// What was settled from `since` until before `until`, by the database's clock. It reads 20,000 entries of an index at most,
/// and a hundred rows, however much was settled: from there on it estimates, by how soon the limit was reached in each
/// fifth of the time.
///
/// # Errors
/// When the database refuses.
pub async fn settled_between<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    since: SystemTime,
    until: SystemTime,
) -> Result<Span, StorageError> {
    let mut conn = pool.acquire().await?;
    let whole = DB::throughput(&mut *conn, table, since, until, COUNTED).await?;
    let mut settled = whole.settled;
    if whole.reached.is_some() {
        settled = 0;
        let part = until.duration_since(since).unwrap_or_default() / PARTS;
        for n in 0..PARTS {
            let from = since + part * n;
            let to = if n + 1 == PARTS { until } else { from + part };
            let counted = DB::throughput(&mut *conn, table, from, to, COUNTED / PARTS).await?;
            settled += estimate(counted.settled, counted.reached, from, to);
        }
    }
    Ok(Span {
        since,
        until,
        settled,
        estimated: whole.reached.is_some(),
        mean_lag: whole.mean_lag,
        longest_lag: whole.longest_lag,
    })
}

/// As many as there would be if it had gone on as it began.
fn estimate(counted: u64, reached: Option<SystemTime>, since: SystemTime, until: SystemTime) -> u64 {
    let Some(reached) = reached else { return counted };
    let millis = |time: SystemTime| time.duration_since(since).unwrap_or_default().as_millis() as u64;
    // The millisecond of the last one is counted as a whole.
    let (part, whole) = (millis(reached) + 1, millis(until));
    if part >= whole { counted } else { counted.saturating_mul(whole) / part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_taken_to_have_gone_on_as_it_began() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |millis| since + Duration::from_millis(millis);
        assert_eq!(estimate(7, None, since, at(1_000)), 7);
        assert_eq!(estimate(2_000, Some(at(99)), since, at(1_000)), 20_000);
        assert_eq!(estimate(2_000, Some(at(999)), since, at(1_000)), 2_000);
        assert_eq!(estimate(2_000, Some(since), since, at(1_000)), 2_000_000);
    }
}
