//! Events that were sent, sent again: for a broker or a receiver that has lost its memory (SEMANTICS.md, rule 26).

use std::time::{Duration, SystemTime};

use distributed_events::admin;
use distributed_events::storage::{OperatorStorage, Table};
use serde_json::json;
use sqlx::Pool;

use crate::arguments::Resend;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{self, Format, rows};
use crate::progress::Progress;
use crate::when::{Shown, time};

/// For how long a topic drops what comes twice, as this library sets it up.
const DUPLICATE_DETECTION: Duration = Duration::from_secs(600);

/// Each span of time is a transaction of its own, from the first to the last, so that sessions keep their order.
const SPANS: u32 = 100;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
/// However far back somebody asks.
const MOST_SPANS: u32 = 5_000;

pub(super) async fn run<DB: OperatorStorage>(
    pool: &Pool<DB>,
    arguments: &Resend,
    format: Format,
) -> Result<(), Failure> {
    let now = admin::clock(pool).await?;
    let since = arguments.since.before(now);
    let until = arguments.until.map_or(now, |until| until.before(now)).min(now);
    let Some(whole) = until.duration_since(since).ok().filter(|whole| !whole.is_zero()) else {
        return Err(Failure::Usage(format!(
            "nothing lies between {} and {}: --since has to come before --until, and before now ({})",
            time(since),
            time(until),
            time(now)
        )));
    };
    refuse_older_than_horizon(arguments, since, now)?;

    let mut conn = pool.acquire().await.map_err(distributed_events::StorageError::from)?;
    let count = DB::throughput(&mut *conn, Table::Outbox, since, until, u32::MAX).await?.settled;
    let remembered = now.checked_sub(DUPLICATE_DETECTION).unwrap_or(SystemTime::UNIX_EPOCH).max(since);
    let dropped = match remembered < until {
        true => DB::throughput(&mut *conn, Table::Outbox, remembered, until, u32::MAX).await?.settled,
        false => 0,
    };
    drop(conn);
    // Of one name they are counted only when they are sent again: the index that tells how many knows no names.
    let of =
        arguments.event.as_ref().map_or_else(String::new, |event| format!(", as far as they are {event},"));
    if dropped > 0 {
        output::note(&format!(
            "note: of these {} came within the last {}: a topic with duplicate detection of that length, as this library \
             creates them, drops them as duplicates; if it still has its memory, wait until {} or say --until {}",
            rows(dropped),
            Shown(DUPLICATE_DETECTION),
            time(until + DUPLICATE_DETECTION),
            time(remembered)
        ));
    }
    if count > 0 {
        let question = format!(
            "Send {}{of} again, sent from {} until {}? Receivers drop what they still know.",
            rows(count),
            time(since),
            time(until)
        );
        confirm(&question, arguments.yes)?;
    }

    let span = (whole / SPANS).clamp(SHORTEST, LONGEST).max(whole / MOST_SPANS);
    let mut progress = Progress::new("pending again");
    let (mut from, mut done) = (since, 0);
    while from < until && count > 0 {
        let to = (from + span).min(until);
        done += admin::resend_between(pool, from, to, arguments.event.as_deref()).await?;
        let passed = to.duration_since(since).unwrap_or_default();
        progress.at(done, Some((passed.as_secs(), whole.as_secs())));
        from = to;
    }
    drop(progress);
    match format {
        Format::People => output::say(&format!("pending again: {}", rows(done))),
        Format::Json => output::json(&json!({ "resent": done, "within_duplicate_detection": dropped })),
    }
}

fn refuse_older_than_horizon(arguments: &Resend, since: SystemTime, now: SystemTime) -> Result<(), Failure> {
    let horizon = now.checked_sub(arguments.horizon).unwrap_or(SystemTime::UNIX_EPOCH);
    if since >= horizon || arguments.force {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--since {} is before the receivers' dedupe horizon ({} ago, --horizon): they don't know any more what they have had \
         from before that, and keep such an event dead instead of handling it; say --since {}, or --force",
        time(since),
        Shown(arguments.horizon),
        time(horizon)
    )))
}
