//! What retention does not keep any more, deleted now.

use std::time::Duration;

use distributed_events::admin::{self, Retention};
use distributed_events::storage::OperatorStorage;
use serde_json::json;
use sqlx::Pool;

use crate::arguments::Purge;
use crate::config::Config;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{self, Format, rows};
use crate::progress::Progress;
use crate::when::Shown;

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Rows deleted with one statement, and the pause after it, in which others write.
const SLICE: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run<DB: OperatorStorage>(
    pool: &Pool<DB>,
    arguments: &Purge,
    config: &Config,
    format: Format,
) -> Result<(), Failure> {
    // A relay that deletes what it has sent leaves nothing to purge.
    let sent = arguments.keep_sent.or(config.outbox.keep_sent).unwrap_or(WEEK);
    let bodies = arguments.keep_bodies.or(config.inbox.keep_bodies).unwrap_or(WEEK);
    let keys = arguments.keep_keys.or(config.inbox.keep_keys).unwrap_or(30 * DAY);
    // What a bus refuses to be built with, too: outbox retention, the longest delay, and a day.
    let least = sent.max(WEEK) + WEEK + DAY;
    if keys < least && !arguments.force {
        return Err(Failure::Usage(format!(
            "--keep-keys {} is shorter than an event can be sent again for ({}: what outboxes keep, the longest delay, and a \
             day): a late copy would be handled twice; keep keys longer, or say --force",
            Shown(keys),
            Shown(least)
        )));
    }
    let question = format!(
        "Delete what was sent more than {} ago, bodies of what was processed more than {} ago, and keys of what was \
         processed more than {} ago?",
        Shown(sent),
        Shown(bodies),
        Shown(keys)
    );
    confirm(&question, arguments.yes)?;
    let sent = purge(pool, "sent", |limit| Retention::Outbox { older_than: sent, limit }).await?;
    let bodies = purge(pool, "bodies", |limit| Retention::InboxBodies { older_than: bodies, limit }).await?;
    let keys = purge(pool, "keys", |limit| Retention::InboxRows { older_than: keys, limit }).await?;
    match format {
        Format::People => output::say(&format!(
            "purged: {} of the outbox, the bodies of {} and {} of the inbox",
            rows(sent),
            rows(bodies),
            rows(keys)
        )),
        Format::Json => output::json(&json!({ "sent": sent, "bodies": bodies, "keys": keys })),
    }
}

/// Slice by slice, so that nobody waits long for a lock.
async fn purge<DB: OperatorStorage>(
    pool: &Pool<DB>,
    what: &'static str,
    retention: impl Fn(u32) -> Retention,
) -> Result<u64, Failure> {
    let mut progress = Progress::new(what);
    let mut all = 0;
    loop {
        let gone = admin::purge(pool, &retention(SLICE)).await?;
        all += gone;
        progress.at(all, None);
        if gone < u64::from(SLICE) {
            return Ok(all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
