//! A worker: takes one shard's rows in order and brings each to its end.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::caution::Turn;
use super::guarded::{self, Ran, Work};
use super::handler::States;
use super::route::{LONGEST_WAIT, Route, Routes};
use super::runs::{DEAD, INTERRUPTED, PROCESSED, RETRIED, Runner, Runs};
use super::settings::InboxSettings;
use super::shard::Shard;
use crate::crash;
use crate::shutdown::Shutdown;
use crate::storage::{Attempt, Connections, InboxQuery, InboxRow, Instance, Storage, StorageError, Verdict};
use crate::telemetry::{IncidentKind, Telemetry};

/// How long a worker stays with one shard while others wait.
const SLICE: Duration = Duration::from_millis(500);
/// The wait before a run that the database's trouble cut short is repeated.
const TROUBLE_WAIT: Duration = Duration::from_millis(200);

/// What all workers of a processor share.
#[derive(Debug)]
pub(super) struct Core<DB: Storage> {
    pub(super) connections: Connections<DB>,
    pub(super) subscription: String,
    pub(super) source: String,
    pub(super) routes: Arc<Routes<DB>>,
    pub(super) states: States,
    pub(super) settings: InboxSettings,
    pub(super) telemetry: Telemetry,
    /// What the broker of its events is called.
    pub(super) system: &'static str,
    /// This instance, and what it handles.
    pub(super) me: Instance,
    /// The live instances, and when they were asked for (rule 21).
    pub(super) live: Mutex<(Option<Instant>, Vec<Instance>)>,

    /// Event names that the subscription is declared to ignore where nobody handles them.
    pub(super) ignores_unknown: bool,
    pub(super) ignored: Mutex<HashSet<String>>,
}

/// What became of a row.
pub(super) enum Step {
    /// It is settled, or blocked: go on with the next.
    Next,
    /// The table is not as it was read: read again.
    Reread,
}

/// What works on one shard, with a connection of its own.
pub(super) struct Worker<DB: Storage> {
    core: Arc<Core<DB>>,
    pub(super) connections: Connections<DB>,
}

impl<DB: Storage> Deref for Worker<DB> {
    type Target = Core<DB>;

    fn deref(&self) -> &Self::Target {
        &self.core
    }
}

impl<DB: Storage> Worker<DB> {
    pub(super) fn new(core: &Arc<Core<DB>>) -> Self {
        Self { core: Arc::clone(core), connections: core.connections.for_one() }
    }

    /// Works through a shard until nothing eligible is left, its slice is over, or it must stop.
    pub(super) async fn work(
        self,
        mut shard: Shard<DB::Horizon>,
        stop: Shutdown,
    ) -> (Shard<DB::Horizon>, Result<(), StorageError>) {
        let end = Instant::now() + SLICE;
        while Instant::now() < end && !stop.is_stopped() {
            shard.refresh(Instant::now(), self.settings.sweep);
            match self.page(&mut shard, &stop).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Including an unknown commit: what is in memory may be wrong (rule 4).
                    shard.read_again();
                    return (shard, Err(error));
                }
            }
        }
        (shard, Ok(()))
    }

    /// Reads and runs one page; `false` when there is no more.
    async fn page(&self, shard: &mut Shard<DB::Horizon>, stop: &Shutdown) -> Result<bool, StorageError> {
        let blocked = shard.blocked_sessions();
        let waiting = shard.waiting_rows();
        let read_at = Instant::now();
        shard.read_at = Some(read_at);

        let (rows, last, end, horizon) = {
            let mut conn = self.connections.read().await?;
            if let Some(horizon) = shard.watermark.unproven()
                && DB::has_passed(&mut conn, horizon).await?
            {
                shard.watermark.proven();
            }
            let query = InboxQuery::new(&self.subscription, shard.number, self.settings.page_size)
                .after(shard.watermark.low())
                .without(&blocked)
                .except(&waiting);
            let rows = DB::read_inbox(&mut conn, &query).await?;
            let last = rows.last().map(|row| row.seq);
            // A page that is not full was the last; what has come since is found by the next look.
            let end = last.filter(|_| rows.len() >= self.settings.page_size as usize);
            let wanted = shard.watermark.wants_horizon(last, end);
            let horizon = if wanted { Some(DB::horizon(&mut conn).await?) } else { None };
            (rows, last, end, horizon)
        };
        let mut rest = rows.as_slice();
        while let Some(row) = rest.first() {
            if stop.is_stopped() || !shard.lease.is_good(Instant::now()) {
                return Ok(false);
            }
            let taken = self.batch_length(shard, rest);
            let step = if taken > 1 {
                self.run_batch(shard, &rest[..taken], stop).await?
            } else {
                self.run_row(shard, row, stop).await?
            };
            if matches!(step, Step::Reread) {
                shard.read_again();
                return Ok(true);
            }
            rest = &rest[taken.max(1)..];
        }
        shard.watermark.read(last, end, horizon);
        if end.is_none() {
            shard.caught_up(read_at);
        }
        Ok(end.is_some())
    }

    /// How many of the next rows may share one transaction (rule 12).
    fn batch_length(&self, shard: &Shard<DB::Horizon>, rows: &[InboxRow]) -> usize {
        let mut most = usize::MAX;
        let mut length = 0;
        for row in rows {
            let Some(route) = self.plain_route(shard, row) else {
                break;
            };
            most = most.min(route.batch);
            if route.batch < 2 || length >= most {
                break;
            }
            length += 1;
        }
        length.min(most)
    }

    /// The route of a row about which there is nothing special.
    fn plain_route(&self, shard: &Shard<DB::Horizon>, row: &InboxRow) -> Option<&Route<DB>> {
        let special = shard.is_blocked(row.event.session_id.as_deref())
            || shard.is_cautious(row)
            || shard.is_counted(row)
            || !row.due_in.is_zero()
            || self.refusal(row).is_some();
        if special { None } else { self.route(row) }
    }

    fn route(&self, row: &InboxRow) -> Option<&Route<DB>> {
        self.routes.get(&row.event.name).filter(|route| row.event.version <= route.version)
    }

    /// Why no handler may start on a row at all.
    fn refusal(&self, row: &InboxRow) -> Option<String> {
        if let Some(reason) = &row.unreadable {
            return Some(format!("the row can't be read: {reason}"));
        }
        if row.expired {
            return Some("expired".to_owned());
        }
        row.age
            .is_some_and(|age| age > self.settings.keep_keys)
            .then(|| "older than the dedupe horizon".to_owned())
    }

    async fn run_batch(
        &self,
        shard: &mut Shard<DB::Horizon>,
        rows: &[InboxRow],
        stop: &Shutdown,
    ) -> Result<Step, StorageError> {
        let routed: Vec<_> =
            rows.iter().filter_map(|row| self.route(row).map(|route| (row, route))).collect();
        let timeout =
            routed.iter().map(|(_, route)| route.timeout).min().unwrap_or(DB::DEFAULT_HANDLER_TIMEOUT);
        let mut runs = self.runner().runs();
        let ran = guarded::run(&self.connections, &self.work_of(&routed, timeout), &mut runs).await?;
        match ran {
            Ran::Committed => {
                runs.outcome(PROCESSED);
                self.telemetry.counters.processed(rows.len() as u64);
                return Ok(Step::Next);
            }
            Ran::Stale => return Ok(Step::Reread),
            // Which of them did it can't be told, and each may have had effects that are durable.
            Ran::Ended(reason) => {
                runs.outcome(DEAD);
                for row in rows {
                    self.end_dead(shard, row, &reason, Verdict::DeadAfterEnd, 0).await?;
                }
                return Ok(Step::Next);
            }
            // Each alone, which says more than the batch.
            Ran::Failed(_) | Ran::Trouble(_) | Ran::Held => runs.outcome(INTERRUPTED),
        }
        for row in rows {
            if !shard.is_blocked(row.event.session_id.as_deref())
                && matches!(self.run_row(shard, row, stop).await?, Step::Reread)
            {
                return Ok(Step::Reread);
            }
        }
        Ok(Step::Next)
    }

    fn runner(&self) -> Runner<'_> {
        Runner { telemetry: &self.telemetry, system: self.system, subscription: &self.subscription }
    }

    fn work_of<'a>(&'a self, rows: &'a [(&'a InboxRow, &'a Route<DB>)], timeout: Duration) -> Work<'a, DB> {
        Work { subscription: &self.subscription, rows, states: &self.states, timeout }
    }

    async fn run_row(
        &self,
        shard: &mut Shard<DB::Horizon>,
        row: &InboxRow,
        stop: &Shutdown,
    ) -> Result<Step, StorageError> {
        let session = row.event.session_id.as_deref();
        if shard.is_blocked(session) {
            return Ok(Step::Next);
        }
        if !row.due_in.is_zero() {
            shard.block(row, Instant::now() + row.due_in.min(LONGEST_WAIT));
            return Ok(Step::Next);
        }
        if let Some(reason) = self.refusal(row) {
            return self.end_dead(shard, row, &reason, Verdict::Dead, 0).await;
        }
        let Some(route) = self.route(row) else {
            return self.unknown(shard, row).await;
        };
        // Unless the database's trouble kept what came of it from being written.
        let counted_before = shard.is_counted(row);
        let uncounted =
            counted_before.then(|| InboxRow { attempts: row.attempts.saturating_sub(1), ..row.clone() });
        let row = uncounted.as_ref().unwrap_or(row);
        let cautious = counted_before || shard.is_cautious(row);
        let most = route.retry.max_attempts();
        if cautious && !counted_before && row.attempts >= most {
            let reason = format!("the process ended {} times while handling it", row.attempts);
            return self.end_dead(shard, row, &reason, Verdict::Dead, 0).await;
        }
        let turn = if cautious { Turn::wait(self.connections.life(), row, most, stop).await } else { None };
        if cautious && (turn.is_none() || !shard.lease.is_good(Instant::now())) {
            return Ok(Step::Reread);
        }
        if cautious && !counted_before {
            // Written before the handler, so that an event which kills the process is counted all the same.
            let attempt =
                Attempt::new(row.seq, &shard.lease.fence, Verdict::Retry(Duration::ZERO)).counting(1);
            if !self.record(&attempt).await? {
                return Ok(Step::Reread);
            }
            shard.counts(row);
        }
        let routed = [(row, route)];
        let mut runs = self.runner().runs();
        let ran = guarded::run(&self.connections, &self.work_of(&routed, route.timeout), &mut runs).await;
        drop(turn);
        shard.passed(row);
        let ran = ran?;
        if matches!(ran, Ran::Held) {
            // Its session waits and no other does; nothing is written, since the row can't be (rule 3).
            shard.block(row, Instant::now() + TROUBLE_WAIT);
            return Ok(Step::Next);
        }
        let settling = self.settle(shard, row, route, ran, i32::from(cautious), &runs);
        let step = settling.instrument(runs.span()).await?;
        shard.settled(row);
        Ok(step)
    }

    /// Writes down what came of a row, unless its transaction has.
    async fn settle(
        &self,
        shard: &mut Shard<DB::Horizon>,
        row: &InboxRow,
        route: &Route<DB>,
        ran: Ran,
        counted: i32,
        runs: &Runs<'_>,
    ) -> Result<Step, StorageError> {
        match ran {
            Ran::Committed => {
                runs.outcome(PROCESSED);
                self.telemetry.counters.processed(1);
                Ok(Step::Next)
            }
            Ran::Stale | Ran::Held => Ok(Step::Reread),
            Ran::Ended(reason) => {
                runs.outcome(DEAD);
                self.end_dead(shard, row, &reason, Verdict::DeadAfterEnd, 1 - counted).await
            }
            Ran::Trouble(reason) => {
                runs.outcome(INTERRUPTED);
                self.try_again(shard, row, TROUBLE_WAIT, -counted, &reason).await
            }
            Ran::Failed(error) => {
                let (reason, again) = (error.text(), route.again_in(&error, row));
                runs.outcome(if again.is_some() { RETRIED } else { DEAD });
                match again {
                    Some((delay, counts)) => {
                        self.try_again(shard, row, delay, i32::from(counts) - counted, &reason).await
                    }
                    None => self.end_dead(shard, row, &reason, Verdict::Dead, 1 - counted).await,
                }
            }
        }
    }

    async fn try_again(
        &self,
        shard: &mut Shard<DB::Horizon>,
        row: &InboxRow,
        delay: Duration,
        count: i32,
        reason: &str,
    ) -> Result<Step, StorageError> {
        let attempt = Attempt::new(row.seq, &shard.lease.fence, Verdict::Retry(delay)).counting(count);
        let ours = self.record(&attempt.because(reason)).await?;
        if !ours {
            return Ok(Step::Reread);
        }
        shard.block(row, Instant::now() + delay);
        self.telemetry.counters.retried();
        self.tell(IncidentKind::HandlerFailed, row, &format!("{reason}; trying again in {delay:.1?}"));
        Ok(Step::Next)
    }

    pub(super) async fn end_dead(
        &self,
        shard: &Shard<DB::Horizon>,
        row: &InboxRow,
        reason: &str,
        verdict: Verdict,
        count: i32,
    ) -> Result<Step, StorageError> {
        let attempt = Attempt::new(row.seq, &shard.lease.fence, verdict).counting(count);
        if !self.record(&attempt.because(reason)).await? {
            return Ok(Step::Reread);
        }
        self.telemetry.dead_in_inbox(&self.subscription, 1);
        self.tell(IncidentKind::EventDead, row, reason);
        Ok(Step::Next)
    }

    async fn record(&self, attempt: &Attempt<'_>) -> Result<bool, StorageError> {
        crash::point("processor.before-attempt");
        let recorded = DB::record_attempt(&mut *self.connections.write().await?, attempt).await;
        crash::point("processor.after-attempt");
        recorded
    }

    pub(super) fn tell(&self, kind: IncidentKind, row: &InboxRow, message: &str) {
        self.telemetry.incidents.report_event(kind, &self.source, row.event.id, &row.event.name, message);
    }
}
