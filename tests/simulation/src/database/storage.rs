//! The way of an event through the model database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributed_events::crash::is_broken;
use distributed_events::storage::{
    Attempt, CommitOrder, Delivery, GuardOutcome, InboxQuery, InboxRow, IncomingEvent, IngestReport,
    NewEvent, OutboxQuery, OutboxRow, PoolSettings, Retention, SentRows, Storage, Trouble, Verdict, shard_of,
};
use distributed_events::{EventId, StorageError};
use sqlx::{Connection as _, Error, Pool, Transaction};

use super::driver::{LOCK_TIMEOUT, ModelConnection, ModelDatabase, Refusal};
use super::rows::{InRow, OutRow, State};
use super::server::Inner;
use super::table::{Blocked, Tx};

/// How long a mark waits for a row (rule 3).
const MARK_WAIT: Duration = Duration::from_millis(500);
/// What a silent transaction may take beyond its handler's time.
const IDLE_MARGIN: Duration = Duration::from_secs(2);

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

fn at(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

fn since_epoch(time: SystemTime) -> i64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Storage for ModelDatabase {
    const BEGIN: &'static str = "BEGIN";
    const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(30);
    const SINGLE_WRITER: bool = false;

    const KEEPS_SESSIONS: bool = true;
    type Horizon = Tx;

    async fn open(pool: &Pool<Self>, _settings: &PoolSettings) -> Result<Pool<Self>, StorageError> {
        Ok(pool.clone())
    }

    fn identity(pool: &Pool<Self>) -> String {
        pool.connect_options().server.name.clone()
    }

    async fn migrate(_pool: &Pool<Self>) -> Result<(), StorageError> {
        Ok(())
    }

    async fn check(conn: &mut ModelConnection) -> Result<Vec<String>, StorageError> {
        conn.ping().await?;
        Ok(Vec::new())
    }

    async fn insert_outbox(conn: &mut ModelConnection, events: &[NewEvent]) -> Result<(), StorageError> {
        if conn.is_whole().is_none() {
            return Err(StorageError::NoTransaction);
        }
        let call = |inner: &mut Inner, now: i64, tx: Tx| {
            for event in events {
                let mut envelope = event.envelope.clone();
                envelope.created_at = at(now);
                let deliver_at = match event.deliver {
                    Delivery::In(delay) => Some(now + millis(delay)),
                    Delivery::At(time) => Some(since_epoch(time)),
                    _ => None,
                };
                let expires_at = event.ttl.map(|ttl| now + millis(ttl));
                envelope.expires_at = expires_at.map(at);
                inner.outbox.insert(
                    tx,
                    OutRow { envelope, state: State::Pending, deliver_at, expires_at, done_at: 0 },
                );
            }
            Ok(())
        };
        Ok(conn.run("publish", LOCK_TIMEOUT, call).await?)
    }

    async fn read_outbox(
        conn: &mut ModelConnection,
        query: &OutboxQuery<'_>,
    ) -> Result<Vec<OutboxRow>, StorageError> {
        let ahead = query.due_in.map(millis);
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let lane = |row: &OutRow| row.envelope.lane == query.lane && row.state == State::Pending;
            let rows = inner.outbox.seen(None).filter(|(seq, row)| lane(row) && !query.except.contains(seq));
            let mut rows: Vec<_> = match ahead {
                None => rows.filter(|(seq, row)| row.deliver_at.is_none() && *seq > query.after).collect(),
                Some(ahead) => {
                    rows.filter(|(_, row)| row.deliver_at.is_some_and(|at| at <= now + ahead)).collect()
                }
            };
            rows.sort_by_key(|(seq, row)| (row.deliver_at, *seq));
            if ahead.is_some()
                && let Some(from) = rows.iter().position(|(seq, _)| *seq == query.after)
            {
                rows.drain(..=from);
            }
            let row = |(seq, row): (i64, &OutRow)| {
                OutboxRow::new(seq, row.envelope.clone(), row.expires_at.is_some_and(|at| at <= now))
            };
            Ok(rows.into_iter().take(query.limit as usize).map(row).collect::<Vec<_>>())
        };
        let name = if ahead.is_some() { "read_outbox due" } else { "read_outbox" };
        let rows = conn.run(name, LOCK_TIMEOUT, call).await?;
        if !rows.is_empty() {
            conn.say(|| format!("{name}: {:?}", rows.iter().map(|row| row.seq).collect::<Vec<_>>()));
        }
        Ok(rows)
    }

    async fn mark_sent(
        conn: &mut ModelConnection,
        ids: &[EventId],
        keep: SentRows,
    ) -> Result<u64, StorageError> {
        let call = |inner: &mut Inner, now: i64, tx: Tx| {
            let fits = |row: &OutRow| ids.contains(&row.envelope.id);
            let seqs: Vec<_> =
                inner.outbox.seen(None).filter(|(_, row)| fits(row)).map(|(seq, _)| seq).collect();
            let mut marked = 0;
            for seq in seqs {
                let done = |row: &OutRow| OutRow { state: State::Done, done_at: now, ..row.clone() };
                let change = |row: &OutRow| {
                    (row.state == State::Pending).then(|| (keep == SentRows::Keep).then(|| done(row)))
                };
                marked += u64::from(inner.outbox.change(tx, seq, change)?);
            }
            Ok(marked)
        };
        Ok(conn.run("mark_sent", LOCK_TIMEOUT, call).await?)
    }

    async fn mark_outbox_dead(
        conn: &mut ModelConnection,
        id: EventId,
        reason: &str,
    ) -> Result<bool, StorageError> {
        conn.say(|| format!("outbox row {id} is dead: {reason}"));
        let call = |inner: &mut Inner, now: i64, tx: Tx| {
            let Some(seq) =
                inner.outbox.seen(None).find(|(_, row)| row.envelope.id == id).map(|(seq, _)| seq)
            else {
                return Ok(false);
            };
            let dead = |row: &OutRow| OutRow { state: State::Dead, done_at: now, ..row.clone() };
            inner.outbox.change(tx, seq, |row| (row.state == State::Pending).then(|| Some(dead(row))))
        };
        Ok(conn.run("mark_outbox_dead", LOCK_TIMEOUT, call).await?)
    }

    async fn horizon(conn: &mut ModelConnection) -> Result<Tx, StorageError> {
        let call = |inner: &mut Inner, _now: i64, tx: Tx| Ok(inner.horizon().max(tx));
        Ok(conn.run("horizon", LOCK_TIMEOUT, call).await?)
    }

    async fn has_passed(conn: &mut ModelConnection, horizon: &mut Tx) -> Result<bool, StorageError> {
        let asked = *horizon;
        let call = |inner: &mut Inner, _now: i64, _tx: Tx| Ok(inner.has_passed(asked));
        Ok(conn.run("has_passed", LOCK_TIMEOUT, call).await?)
    }

    async fn ingest_in_order(
        conn: &mut ModelConnection,
        subscription: &str,
        events: &[IncomingEvent],
        order: &mut CommitOrder,
    ) -> Result<IngestReport, StorageError> {
        let mut report = IngestReport::default();
        let mut tx = conn.begin().await?;
        for event in events {
            let mut event = event.clone();
            // Every event is a new one then, so that the checker has something to find.
            if is_broken("dedupe") {
                event.id = EventId::new();
            }
            let call = |inner: &mut Inner, now: i64, tx: Tx| {
                let same = |row: &InRow| row.subscription == subscription && row.event.id == event.id;
                if let Some(blocked) = inner.inbox.adding(tx, same) {
                    return Err(blocked);
                }
                if inner.inbox.seen(Some(tx)).any(|(_, row)| same(row)) {
                    return Ok(false);
                }
                let state = if event.dead.is_some() { State::Dead } else { State::Pending };
                let (subscription, shard) = (subscription.to_owned(), shard_of(&event.shard_key()));
                let (attempts, due_at, received_at) = (0, 0, now);
                let event = event.clone();
                inner
                    .inbox
                    .insert(tx, InRow { subscription, event, shard, state, attempts, due_at, received_at });
                Ok(true)
            };
            match tx.run(&format!("ingest {subscription}"), LOCK_TIMEOUT, call).await? {
                true => report.inserted += 1,
                false => report.duplicates += 1,
            }
        }
        order.commit().await;
        tx.commit().await?;
        conn.say(|| format!("ingest {subscription}: {} new, {} known", report.inserted, report.duplicates));
        Ok(report)
    }

    async fn ready_shards(
        conn: &mut ModelConnection,
        subscription: &str,
        shards: &[(u8, i64)],
    ) -> Result<Vec<u8>, StorageError> {
        let call = |inner: &mut Inner, _now: i64, _tx: Tx| {
            let pending = |row: &InRow| row.subscription == subscription && row.state == State::Pending;
            let rows: Vec<_> = inner
                .inbox
                .seen(None)
                .filter(|(_, row)| pending(row))
                .map(|(seq, row)| (row.shard, seq))
                .collect();
            let ready = |(shard, low): &&(u8, i64)| rows.iter().any(|(of, seq)| of == shard && seq > low);
            Ok(shards.iter().filter(ready).map(|(shard, _)| *shard).collect())
        };
        Ok(conn.run(&format!("ready_shards {subscription}"), LOCK_TIMEOUT, call).await?)
    }

    async fn read_inbox(
        conn: &mut ModelConnection,
        query: &InboxQuery<'_>,
    ) -> Result<Vec<InboxRow>, StorageError> {
        let call = |inner: &mut Inner, now: i64, _tx: Tx| {
            let wanted = |seq: i64, row: &InRow| {
                row.subscription == query.subscription
                    && row.shard == query.shard
                    && row.state == State::Pending
                    && seq > query.after
                    && !query.except.contains(&seq)
                    && !row.event.session_id.as_ref().is_some_and(|session| query.blocked.contains(session))
            };
            let shown = |(seq, row): (i64, &InRow)| {
                let mut shown = InboxRow::new(seq, row.event.clone(), at(row.received_at));
                shown.attempts = row.attempts;
                shown.due_in = Duration::from_millis(u64::try_from(row.due_at - now).unwrap_or_default());
                shown
            };
            let rows = inner.inbox.seen(None).filter(|(seq, row)| wanted(*seq, row));
            Ok(rows.take(query.limit as usize).map(shown).collect::<Vec<_>>())
        };
        let rows = conn.run(&format!("read_inbox {}", query.shard), LOCK_TIMEOUT, call).await?;
        if !rows.is_empty() {
            let seqs = || rows.iter().map(|row| row.seq).collect::<Vec<_>>();
            conn.say(|| format!("reads shard {} of {}: {:?}", query.shard, query.subscription, seqs()));
        }
        Ok(rows)
    }

    async fn begin_guarded(
        conn: &mut ModelConnection,
        timeout: Duration,
    ) -> Result<Transaction<'_, Self>, StorageError> {
        let tx = conn.begin().await?;
        tx.limit(timeout.checked_add(IDLE_MARGIN));
        Ok(tx)
    }

    async fn mark_processed(conn: &mut ModelConnection, seqs: &[i64]) -> Result<u64, StorageError> {
        let call = |inner: &mut Inner, _now: i64, tx: Tx| {
            let mut marked = 0;
            for seq in seqs {
                let change = |row: &InRow| {
                    (row.state == State::Pending).then(|| Some(InRow { state: State::Done, ..row.clone() }))
                };
                marked += u64::from(inner.inbox.change(tx, *seq, change)?);
            }
            Ok(marked)
        };
        let marked = conn.run(&format!("mark_processed {seqs:?}"), MARK_WAIT, call).await?;
        // As with the guard left out: whoever comes second takes the row for its own.
        Ok(if is_broken("guard") { seqs.len() as u64 } else { marked })
    }

    async fn close_guard(conn: &mut ModelConnection, _marked: &[i64]) -> Result<GuardOutcome, StorageError> {
        // Travels, and finds the connection alive or not.
        match conn.run("close_guard", LOCK_TIMEOUT, |_: &mut Inner, _, _| Ok::<(), Blocked>(())).await {
            Ok(()) => Ok(GuardOutcome::Whole),
            Err(Error::Database(_)) => Ok(GuardOutcome::Broken),
            Err(error) => Err(error.into()),
        }
    }

    async fn record_attempt(conn: &mut ModelConnection, attempt: &Attempt<'_>) -> Result<bool, StorageError> {
        let call = |inner: &mut Inner, now: i64, tx: Tx| {
            let fence = attempt.fence;
            let holds = inner
                .leases
                .get(&fence.name)
                .is_some_and(|lease| lease.owner == Some(fence.owner) && lease.epoch == fence.epoch);
            let after_end = attempt.verdict == Verdict::DeadAfterEnd;
            inner.inbox.change(tx, attempt.seq, |row| {
                let fits = row.state == State::Pending && holds || after_end && row.state != State::Dead;
                let attempts = row.attempts.saturating_add_signed(attempt.count);
                let row = InRow { attempts, ..row.clone() };
                fits.then(|| {
                    Some(match attempt.verdict {
                        Verdict::Retry(delay) => InRow { due_at: now + millis(delay), ..row },
                        _ => InRow { state: State::Dead, ..row },
                    })
                })
            })
        };
        let recorded = conn.run(&format!("record_attempt {}", attempt.seq), LOCK_TIMEOUT, call).await?;
        conn.say(|| {
            let Attempt { seq, verdict, error, .. } = attempt;
            format!(
                "row {seq}: {verdict:?} ({}): {}",
                error.unwrap_or("-"),
                if recorded { "recorded" } else { "not ours" }
            )
        });
        Ok(recorded)
    }

    fn trouble(error: &Error) -> Trouble {
        match error {
            Error::Database(refusal)
                if !refusal.try_downcast_ref::<Refusal>().is_some_and(|refusal| refusal.passes) =>
            {
                Trouble::Lasting
            }
            _ => Trouble::Passing,
        }
    }

    async fn purge(conn: &mut ModelConnection, retention: &Retention) -> Result<u64, StorageError> {
        let Retention::Outbox { older_than, .. } = retention else {
            return Ok(0);
        };
        let call = |inner: &mut Inner, now: i64, tx: Tx| {
            let old = |row: &OutRow| row.state == State::Done && row.done_at < now - millis(*older_than);
            let seqs: Vec<_> =
                inner.outbox.seen(None).filter(|(_, row)| old(row)).map(|(seq, _)| seq).collect();
            for seq in &seqs {
                inner.outbox.change(tx, *seq, |_| Some(None))?;
            }
            Ok(seqs.len() as u64)
        };
        Ok(conn.run("purge", LOCK_TIMEOUT, call).await?)
    }
}
