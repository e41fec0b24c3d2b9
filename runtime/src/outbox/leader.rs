//! The leader of a lane: reads pages, sends batches side by side, marks what was accepted.

mod circuit;
mod unfinished;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::circuit::Circuit;
pub(super) use self::unfinished::Unfinished;
use super::plan::Plan;
use super::relay::OutboxRelay;
use super::send::{self, Outcome};
use crate::broker::{BatchLimits, SendError};
use crate::lease::{Lease, renew_every};
use crate::pace::Pace;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{OutboxQuery, OutboxRow, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::watermark::Watermark;
use crate::{crash, simulated, wake};

/// Rows kept in memory are bounded by this many bytes beside their number.
const ROOM_BYTES: usize = 32 * 1024 * 1024;
/// Where reading has not come to the end for so many sweeps, it begins again all the same.
const PATIENT_SWEEPS: u32 = 12;

pub(super) struct Leader<'a, DB: Storage> {
    relay: &'a OutboxRelay<DB>,
    lease: Lease,
    renew_at: Instant,
    sweep_at: Instant,
    watermark: Watermark<DB::Horizon>,
    /// Whether the last read came to the end.
    at_end: bool,
    /// Rows whose delay is over are read after this one.
    due_after: i64,
    plan: Plan,
    /// Batches under way, with the round of the circuit that each was sent in. Tasks of their own, since they may hold what
    /// this one waits for, such as a database's turn to write; aborted when dropped.
    in_flight: JoinSet<(u64, Outcome)>,
    /// What the broker does beside sending, under way.
    maintenance: JoinSet<Option<Duration>>,
    /// When the broker is to be asked for it again.
    maintain_at: Option<Instant>,
    unfinished: Unfinished,
    circuit: Circuit,
    /// The backoffs of topics that could not take events (rule 24).
    topics: HashMap<String, Backoff>,
    pace: Pace,
    hint: watch::Receiver<u64>,
}

impl<'a, DB: Storage> Leader<'a, DB> {
    pub(super) fn new(relay: &'a OutboxRelay<DB>, lease: Lease, unfinished: Unfinished) -> Self {
        let settings = &relay.settings;
        let now = Instant::now();
        let mut hint = wake::on_published();
        hint.mark_unchanged();
        Self {
            relay,
            lease,
            renew_at: now + renew_every(settings.lease_time),
            sweep_at: now + settings.sweep,
            watermark: Watermark::new(DB::SINGLE_WRITER),
            at_end: false,
            due_after: 0,
            plan: Plan::default(),
            in_flight: JoinSet::new(),
            maintenance: JoinSet::new(),
            maintain_at: Some(now),
            unfinished,
            circuit: Circuit::new(Backoff::new(settings.backoff_initial, settings.backoff_max)),
            topics: HashMap::new(),
            pace: Pace::new(settings.poll_interval),
            hint,
        }
    }

    /// Leads until the signal is given or the lease is lost, either of which is `Ok`. What the database would not take is
    /// handed back.
    pub(super) async fn run(mut self, shutdown: &mut Shutdown) -> (Unfinished, Result<(), StorageError>) {
        let led = self.lead(shutdown).await;
        // Whatever ended it: what the broker has accepted is marked, as far as the database lets us.
        while let Some(ended) = self.in_flight.join_next().await {
            self.ended(ended);
        }
        let marked = self.mark().await;
        let mut unfinished = self.unfinished;
        unfinished.lease = Some(self.lease.fence);
        let given_back = match &marked {
            Ok(()) => unfinished.release(&self.relay.connections).await,
            // The database is not well, so the lease waits for the next try too.
            Err(_) => Ok(()),
        };
        (unfinished, led.and(marked).and(given_back))
    }

    async fn lead(&mut self, shutdown: &mut Shutdown) -> Result<(), StorageError> {
        while !shutdown.is_stopped() {
            self.relay.beat.beat();
            while let Some(ended) = self.in_flight.try_join_next() {
                self.ended(ended);
            }
            // What has ended makes room on the wire, which need not stay empty while the outcomes are written.
            self.start_batches(Instant::now());
            self.mark().await?;
            if !self.keep_lease().await? {
                self.relay.telemetry.incidents.report(
                    IncidentKind::LeaseLost,
                    &self.relay.source,
                    "another instance leads now",
                );
                return Ok(());
            }
            let now = Instant::now();
            if self.plan.release_holds(now) || self.must_sweep(now) {
                self.watermark.reset();
                self.sweep_at = now + self.relay.settings.sweep;
            }
            let (found, began) = self.read(now).await?;
            let started = self.start_batches(Instant::now());
            if found || began || started {
                self.pace.found();
            }
            if !found {
                self.wait(shutdown).await;
            }
        }
        Ok(())
    }

    /// Whether it is time to read from the start again: not before the end was reached, or the rows there would never be
    /// read where those before them have to wait (rule 5).
    fn must_sweep(&self, now: Instant) -> bool {
        let patience = if self.at_end { Duration::ZERO } else { self.relay.settings.sweep * PATIENT_SWEEPS };
        now >= self.sweep_at + patience
    }

    /// Waits for an outcome, a hint, or the time of the next look.
    async fn wait(&mut self, shutdown: &mut Shutdown) {
        let now = Instant::now();
        if self.maintain_at.is_some_and(|time| time <= now) {
            let (broker, store) = (Arc::clone(&self.relay.broker), Arc::clone(&self.relay.store));
            self.maintain_at = None;
            let maintaining = async move { broker.maintain(store.as_ref()).await };
            self.maintenance.spawn(simulated::task(maintaining));
        }
        let open_at = self.circuit.shut_until().filter(|until| now < *until);
        let look_at = now + self.pace.nothing(now);
        let next = [self.maintain_at, open_at, self.plan.next_release(), Some(self.renew_at)]
            .into_iter()
            .flatten()
            .fold(look_at, Instant::min);
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            Some(ended) = self.in_flight.join_next() => self.ended(ended),
            Some(again) = self.maintenance.join_next() => {
                // A broker that panicked there is asked again at leisure.
                let again = again.unwrap_or(Some(self.relay.settings.sweep));
                self.maintain_at = again.map(|wait| Instant::now() + wait);
            }
            Ok(()) = self.hint.changed() => self.pace.hint(Instant::now()),
            () = tokio::time::sleep_until(next) => {}
        }
    }

    /// Reads one page of each kind; whether one was full, so that there may be more, and whether a batch has left already.
    async fn read(&mut self, now: Instant) -> Result<(bool, bool), StorageError> {
        let settings = &self.relay.settings;
        let rows = settings.batch_size * settings.in_flight * 4;
        if self.circuit.is_shut(now) || !self.plan.has_room(rows.max(settings.page_size as usize), ROOM_BYTES)
        {
            return Ok((false, false));
        }
        let mut conn = self.relay.connections.read().await?;
        if let Some(horizon) = self.watermark.unproven()
            && DB::has_passed(&mut conn, horizon).await?
        {
            self.watermark.proven();
        }
        let query = OutboxQuery::new(&self.relay.lane, settings.page_size);
        // What is in memory already must not fill the page.
        let dealt_with = if self.watermark.rereads() { self.plan.seqs() } else { Vec::new() };
        let pending = query.after(self.watermark.low()).except(&dealt_with);
        let page = DB::read_outbox(&mut conn, &pending).await?;
        let full = |rows: &[OutboxRow]| rows.len() >= settings.page_size as usize;
        self.at_end = !full(&page);
        let last = page.last().map(|row| row.seq);
        let end = last.filter(|_| full(&page));
        let more = full(&page);
        self.watermark.saw(page.iter().map(|row| row.seq));
        // On the wire before anything else is asked: what follows is for the next read.
        self.add(page, now);
        let began = self.start_batches(Instant::now());
        let wanted = self.watermark.wants_horizon(last, end);
        let horizon = if wanted { Some(DB::horizon(&mut conn).await?) } else { None };
        self.watermark.read(last, end, horizon);
        // By pages too: those of a topic that is held must not hide the others (rule 5).
        let ahead = self.relay.broker.schedules_ahead();
        let due = DB::read_outbox(&mut conn, &query.after(self.due_after).due_in(ahead)).await?;
        self.due_after = due.last().filter(|_| full(&due)).map_or(0, |row| row.seq);
        let more = more || full(&due);
        self.add(due, now);
        Ok((more, began))
    }

    fn add(&mut self, rows: Vec<OutboxRow>, now: Instant) {
        let ended = self.plan.add(rows, &self.relay.default_topic, now);
        self.unfinished.dead.extend(ended);
    }

    fn start_batches(&mut self, now: Instant) -> bool {
        let relay = self.relay;
        let limits = relay.broker.limits();
        let limits = BatchLimits::new(limits.bytes, limits.events.min(relay.settings.batch_size));
        let depth = self.circuit.depth(relay.settings.in_flight);
        let round = self.circuit.round();
        let mut started = false;
        while self.in_flight.len() < depth && !self.circuit.is_shut(now) && self.lease.is_good(now) {
            let Some(planned) = self.plan.next_batch(limits) else {
                break;
            };
            let (broker, store) = (Arc::clone(&relay.broker), Arc::clone(&relay.store));
            self.in_flight.spawn(simulated::task(async move {
                (round, send::send(broker.as_ref(), store.as_ref(), planned).await)
            }));
            started = true;
        }
        started
    }

    fn ended(&mut self, ended: Result<(u64, Outcome), JoinError>) {
        match ended {
            Ok((round, outcome)) => self.settle(round, outcome),
            // Sending catches the broker's panics, so this one was aborted together with us.
            Err(error) => tracing::debug!(%error, "a send ended without an outcome"),
        }
    }

    fn settle(&mut self, round: u64, outcome: Outcome) {
        let relay = self.relay;
        self.plan.finished(&outcome.sessions, &outcome.unsent);
        relay.telemetry.counters.sent(outcome.sent.len() as u64);
        self.unfinished.accepted.extend(outcome.sent);
        self.unfinished.dead.extend(outcome.dead);
        let now = Instant::now();
        let Some(failure) = outcome.failure else {
            self.circuit.answered(round);
            relay.beat.broker_answered();
            self.topics.remove(&outcome.topic);
            return;
        };
        let (kind, wait) = if let SendError::Topic { .. } = failure {
            // The broker is well; only this topic is not.
            self.circuit.answered(round);
            relay.beat.broker_answered();
            (IncidentKind::TopicHeld, self.hold(&outcome.topic, now))
        } else {
            let asked = match &failure {
                SendError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            relay.beat.broker_failed(&failure);
            (IncidentKind::BrokerUnavailable, self.circuit.failed(round, asked, now))
        };
        relay.telemetry.incidents.report(
            kind,
            &relay.source,
            format_args!("{failure}; trying again in {}", crate::telemetry::seconds(wait)),
        );
        // The order is the table's: everything not under way is read again.
        self.plan.clear();
        self.watermark.reset();
        self.due_after = 0;
    }

    /// Holds a topic, each time for longer; batches of it that fail side by side hold it once.
    fn hold(&mut self, topic: &str, now: Instant) -> Duration {
        if let Some(until) = self.plan.held_until(topic, now) {
            return until - now;
        }
        let settings = &self.relay.settings;
        let new = || Backoff::new(settings.backoff_initial, settings.backoff_max);
        let wait = self.topics.entry(topic.to_owned()).or_insert_with(new).next();
        self.plan.hold(topic, now + wait);
        wait
    }

    /// Marks what was accepted, and what can never be sent.
    async fn mark(&mut self) -> Result<(), StorageError> {
        let plan = &mut self.plan;
        self.unfinished.mark(self.relay, |written| plan.forget(written)).await
    }

    /// Renews the lease when it is time; `false` when it is lost.
    async fn keep_lease(&mut self) -> Result<bool, StorageError> {
        let asked = Instant::now();
        if asked < self.renew_at {
            return Ok(true);
        }
        let time = self.relay.settings.lease_time;
        let mut conn = self.relay.connections.write().await?;
        crash::point("lease.before-renewal");
        let held = DB::renew_leases(&mut conn, std::slice::from_ref(&self.lease.fence), time).await?;
        crash::point("lease.renewed");
        self.lease.renewed(asked, time);
        self.renew_at = asked + renew_every(time);
        Ok(!held.is_empty())
    }
}
