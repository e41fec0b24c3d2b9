//! Ordering and billing: what each publishes and handles, on the model database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crash::chance::Chance;
use crash::checker::{Books, Entry, Placed};
use crash::events::{Fate, LineBilled, LinePlaced};
use distributed_events::{
    BusBuilder, DistributedEvent as _, EventBus, HandlerError, HandlerSettings, InboxSettings,
    OutboxSettings, RetryPolicy,
};
use sqlx::{Pool, Transaction};

use crate::database::{Business, ModelDatabase, Server};
use crate::process::Process;

/// Accounts, of which the first has lines without a session; they are rows 1 to so many.
pub const ACCOUNTS: i64 = 5;
/// What each has at first.
const OPENING_CENTS: i64 = 1_000_000;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Places lines, hears of those billed.
    Ordering,
    /// Bills lines.
    Billing,
}

impl Kind {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordering => "ordering",
            Self::Billing => "billing",
        }
    }

    /// Its rows before anything happens.
    pub fn found(self, server: &Server) {
        for _ in 0..ACCOUNTS {
            server.inner().found(match self {
                Self::Ordering => Business::Account { cents: OPENING_CENTS, next: 0 },
                Self::Billing => Business::Till { cents: 0 },
            });
        }
    }

    /// Its settings and handlers.
    pub fn build(
        self,
        builder: BusBuilder<ModelDatabase>,
        process: &Arc<Process>,
        batch: u32,
    ) -> BusBuilder<ModelDatabase> {
        let lease = Duration::from_secs(8);
        let outbox =
            OutboxSettings::default().lease_time(lease).poll_interval(Duration::from_secs(1)).in_flight(4);
        // So few at once that full batches are common, of which two are stored side by side.
        let inbox = InboxSettings::default()
            .receive_batch(2)
            .lease_time(lease)
            .poll_interval(Duration::from_secs(1))
            .handler_timeout(Duration::from_secs(6))
            .retry(RetryPolicy::DEFAULT.attempts(9).max(Duration::from_secs(4)));
        let builder = builder.outbox(outbox).inbox(inbox);
        let process = Arc::clone(process);
        match self {
            Self::Ordering => {
                let settings = HandlerSettings::new("ordering").batch(batch);
                builder.publishes::<LinePlaced>().on(settings, move |event: LineBilled, tx, context| {
                    let (process, first) = (Arc::clone(&process), context.attempt() == 1);
                    Box::pin(async move { note(&event, tx, first, &process).await })
                })
            }
            Self::Billing => {
                let settings = HandlerSettings::new("billing").batch(batch);
                builder.publishes::<LineBilled>().on(settings, move |event: LinePlaced, tx, context| {
                    let (process, first) = (Arc::clone(&process), context.attempt() == 1);
                    Box::pin(async move { bill(&event, tx, first, &process).await })
                })
            }
        }
    }
}

/// Writes first and fails then, so that what is not rolled back shows.
async fn bill(
    event: &LinePlaced,
    tx: &mut Transaction<'_, ModelDatabase>,
    first: bool,
    process: &Process,
) -> Result<(), HandlerError> {
    let LinePlaced { session, n, line, cents, fate } = *event;
    process.say(|| format!("bills line {n} of session {session}"));
    tx.add(Business::Entry(Entry { session, n, line, cents })).await?;
    tx.change(session + 1, |row| match row {
        Business::Till { cents: till } => Business::Till { cents: till + cents },
        other => other.clone(),
    })
    .await?;
    LineBilled { session, n, line, cents }.publish(tx).await?;
    dawdle(process, "bill").await;
    match fate {
        Fate::Refused => Err("the line is refused".into()),
        Fate::Retried if first => Err("the line is refused at first".into()),
        Fate::Billed | Fate::Retried => Ok(()),
    }
}

async fn note(
    event: &LineBilled,
    tx: &mut Transaction<'_, ModelDatabase>,
    first: bool,
    process: &Process,
) -> Result<(), HandlerError> {
    let LineBilled { session, n, line, cents } = *event;
    process.say(|| format!("notes line {n} of session {session}"));
    tx.add(Business::Entry(Entry { session, n, line, cents })).await?;
    dawdle(process, "note").await;
    if first && line % 20 == 3 {
        return Err("the answer is refused at first".into());
    }
    Ok(())
}

/// Some handlers are slow, and some are too slow.
async fn dawdle(process: &Process, call: &str) {
    let mut chance = process.chance(call);
    let time = match chance.below(100) {
        0..90 => 0,
        90..98 => chance.below(2_000),
        _ => chance.below(9_000),
    };
    tokio::time::sleep(Duration::from_millis(time)).await;
}

/// Places orders until there are none left, whatever goes wrong.
pub async fn publish(
    bus: EventBus<ModelDatabase>,
    pool: Pool<ModelDatabase>,
    process: Arc<Process>,
    left: Arc<AtomicU64>,
) {
    loop {
        let mut chance = process.chance("order");
        tokio::time::sleep(Duration::from_millis(chance.below(1_500))).await;
        if left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return;
        }
        if let Err(error) = place(&bus, &pool, &process, &mut chance).await {
            process.say(|| format!("placing: {error}"));
        }
    }
}

async fn place(
    bus: &EventBus<ModelDatabase>,
    pool: &Pool<ModelDatabase>,
    process: &Process,
    chance: &mut Chance,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let session = i64::try_from(chance.below(ACCOUNTS as u64))?;
    let count = i64::try_from(1 + chance.below(3))?;
    let mut lines = Vec::new();
    for _ in 0..count {
        let fate = match chance.below(100) {
            0..3 => Fate::Refused,
            3..15 => Fate::Retried,
            _ => Fate::Billed,
        };
        let line = i64::try_from(chance.next() >> 2)?;
        lines.push(LinePlaced { session, n: 0, line, cents: i64::try_from(1 + chance.below(1000))?, fate });
    }
    let total: i64 = lines.iter().map(|line| line.cents).sum();
    let mut tx = pool.begin().await?;
    // The account is locked before anything is published (rule 1).
    let take = |row: &Business| match row {
        Business::Account { cents, next } => Business::Account { cents: cents - total, next: next + count },
        other => other.clone(),
    };
    let Some(Business::Account { next, .. }) = tx.change(session + 1, take).await? else {
        return Err("there is no such account".into());
    };
    for (line, n) in lines.iter_mut().zip(next - count..) {
        line.n = n;
        let LinePlaced { session, n, line, cents, fate } = *line;
        tx.add(Business::Placed(Placed { session, n, line, cents, fate: fate.number(), billed: 0 })).await?;
    }
    LinePlaced::publish_all(&mut tx, &lines).await?;
    // Commits come late, and not in the order of the sequence numbers.
    let dwells = match chance.below(100) {
        0..80 => chance.below(20),
        80..97 => chance.below(1_000),
        _ => chance.below(15_000),
    };
    tokio::time::sleep(Duration::from_millis(dwells)).await;
    if chance.happens(15) {
        tx.rollback().await?;
    } else {
        bus.commit(tx).await?;
    }
    process.say(|| format!("has placed {count} lines of session {session} from {}", next - count));
    Ok(())
}

/// What the two services' tables say.
pub fn books(ordering: &Server, billing: &Server) -> Books {
    let mut books = Books { opening: ACCOUNTS * OPENING_CENTS, ..Books::default() };
    let rows =
        |server: &Server| server.inner().business.seen(None).map(|(_, row)| row.clone()).collect::<Vec<_>>();
    for row in rows(ordering) {
        match row {
            Business::Account { cents, .. } => books.accounts += cents,
            Business::Placed(placed) => books.placed.push(placed),
            Business::Entry(entry) => books.answers.push(entry),
            Business::Till { .. } => {}
        }
    }
    for row in rows(billing) {
        match row {
            Business::Till { cents } => books.tills += cents,
            Business::Entry(entry) => books.ledger.push(entry),
            _ => {}
        }
    }
    for placed in &mut books.placed {
        let answers = books.answers.iter().filter(|answer| answer.line == placed.line).count();
        placed.billed = i64::try_from(answers).unwrap_or(i64::MAX);
    }
    books
}
