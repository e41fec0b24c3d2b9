//! The leader of a lane: reads pages, sends batches side by side, marks what was accepted.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::Plan;
use super::relay::OutboxRelay;
use super::send::{self, Outcome};
use crate::broker::{BatchLimits, SendError};
use crate::envelope::EventId;
use crate::lease::{Lease, renew_every};
use crate::pace::Pace;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{OutboxQuery, SentRows, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::{crash, wake};
use crate::watermark::Watermark;

/// Rows kept in memory are bounded by this many bytes beside their number.
const ROOM_BYTES: usize = 32 * 1024 * 1024;

enum Maintenance<'a> {
    Running(BoxFuture<'a, Option<Duration>>),
    At(Instant),
    Never,
}

pub(super) struct Leader<'a, DB: Storage> {
    relay: &'a OutboxRelay<DB>,
    lease: Lease,
    renew_at: Instant,
    sweep_at: Instant,
    watermark: Watermark<DB::Horizon>,
    plan: Plan,
    in_flight: FuturesUnordered<BoxFuture<'a, Outcome>>,
    /// What the broker does beside sending, under way or to be asked for at a time.
    maintenance: Maintenance<'a>,
    /// Accepted by the broker and not yet marked: kept until the mark succeeds (rule 25).
    accepted: Vec<EventId>,
    dead: Vec<(EventId, String)>,
    /// The lane's circuit: closed to new batches until then, and half-open (one batch) after.
    closed_until: Option<Instant>,
    half_open: bool,
    backoff: Backoff,
    pace: Pace,
    hint: watch::Receiver<u64>,
}

impl<'a, DB: Storage> Leader<'a, DB> {
    pub(super) fn new(relay: &'a OutboxRelay<DB>, lease: Lease) -> Self {
        let settings = &relay.settings;
        let now = Instant::now();
        let mut hint = wake::on_published();
        hint.mark_unchanged();
        Self {
            relay,
            lease,
            renew_at: now + renew_every(settings.lease_time),
            sweep_at: now + settings.sweep,
            watermark: Watermark::new(),
            plan: Plan::default(),
            in_flight: FuturesUnordered::new(),
            maintenance: Maintenance::At(now),
            accepted: Vec::new(),
            dead: Vec::new(),
            closed_until: None,
            half_open: false,
            backoff: Backoff::new(settings.backoff_initial, settings.backoff_max),
            pace: Pace::new(settings.poll_interval),
            hint,
        }
    }

    /// Leads until the signal is given or the lease is lost, either of which is `Ok`.
    pub(super) async fn run(mut self, shutdown: &mut Shutdown) -> Result<(), StorageError> {
        let led = self.lead(shutdown).await;
        // Whatever ended it: what the broker has accepted is marked, as far as the database lets us.
        while let Some(outcome) = self.in_flight.next().await {
            self.settle(outcome);
        }
        let marked = self.mark().await;
        led?;
        marked?;
        let mut conn = self.relay.pool.acquire().await?;
        DB::release_leases(&mut conn, &[self.lease.fence]).await
    }

    async fn lead(&mut self, shutdown: &mut Shutdown) -> Result<(), StorageError> {
        while !shutdown.is_stopped() {
            while let Some(Some(outcome)) = self.in_flight.next().now_or_never() {
                self.settle(outcome);
            }
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
            if self.plan.release_holds(now) || now >= self.sweep_at {
                self.watermark.reset();
                self.sweep_at = now + self.relay.settings.sweep;
            }
            let found = self.read(now).await?;
            let started = self.start_batches(Instant::now());
            if found || started {
                self.pace.found();
            }
            if !found {
                self.wait(shutdown).await;
            }
        }
        Ok(())
    }

    /// Waits for an outcome, a hint, or the time of the next look.
    async fn wait(&mut self, shutdown: &mut Shutdown) {
        let now = Instant::now();
        if let Maintenance::At(time) = self.maintenance
            && time <= now
        {
            self.maintenance = Maintenance::Running(self.relay.broker.maintain(self.relay.store.as_ref()));
        }
        let maintained = async {
            match &mut self.maintenance {
                Maintenance::Running(running) => running.await,
                _ => std::future::pending().await,
            }
        };
        let next = [Some(now + self.pace.nothing(now)), self.plan.next_release(), Some(self.renew_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now);
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            Some(outcome) = self.in_flight.next(), if !self.in_flight.is_empty() => self.settle(outcome),
            again = maintained => {
                self.maintenance = again.map_or(Maintenance::Never, |wait| Maintenance::At(Instant::now() + wait));
            }
            Ok(()) = self.hint.changed() => self.pace.hint(Instant::now()),
            () = tokio::time::sleep_until(next) => {}
        }
    }

    /// Reads one page; `true` when it was full, so that there may be more.
    async fn read(&mut self, now: Instant) -> Result<bool, StorageError> {
        let settings = &self.relay.settings;
        let rows = settings.batch_size * settings.in_flight * 4;
        if self.is_closed(now) || !self.plan.has_room(rows.max(settings.page_size as usize), ROOM_BYTES) {
            return Ok(false);
        }
        let mut conn = self.relay.pool.acquire().await?;
        if let Some(horizon) = self.watermark.unproven()
            && DB::has_passed(&mut conn, &horizon.clone()).await?
        {
            self.watermark.proven();
        }
        let query = OutboxQuery::new(&self.relay.lane, settings.page_size).after(self.watermark.low());
        let page = DB::read_outbox(&mut conn, &query).await?;
        let full = page.len() >= settings.page_size as usize;
        if let Some(last) = page.last().map(|row| row.seq) {
            self.watermark.seen(last, DB::horizon(&mut conn).await?);
        }
        let due = if full {
            Vec::new()
        } else {
            DB::read_outbox(&mut conn, &OutboxQuery::new(&self.relay.lane, settings.page_size).due()).await?
        };
        for rows in [page, due] {
            let expired = self.plan.add(rows, &self.relay.default_topic, now);
            self.dead.extend(expired.into_iter().map(|id| (id, "expired".to_owned())));
        }
        Ok(full)
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    fn start_batches(&mut self, now: Instant) -> bool {
        let relay = self.relay;
        let limits = relay.broker.limits();
        let limits = BatchLimits::new(limits.bytes, limits.events.min(relay.settings.batch_size));
        let depth = if self.half_open { 1 } else { relay.settings.in_flight };
        let mut started = false;
        while self.in_flight.len() < depth && !self.is_closed(now) && self.lease.is_good(now) {
            let Some(planned) = self.plan.next_batch(limits) else { break };
            self.in_flight.push(send::send(relay.broker.as_ref(), relay.store.as_ref(), planned).boxed());
            started = true;
        }
        started
    }

    fn settle(&mut self, outcome: Outcome) {
        let relay = self.relay;
        self.plan.finished(&outcome.sessions, &outcome.unsent);
        relay.telemetry.counters.sent(outcome.sent.len() as u64);
        self.accepted.extend(outcome.sent);
        self.dead.extend(outcome.dead);
        let now = Instant::now();
        let Some(failure) = outcome.failure else {
            self.half_open = false;
            self.closed_until = None;
            self.backoff.reset();
            return;
        };
        let wait = match &failure {
            SendError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default().max(self.backoff.next()),
            _ => self.backoff.next(),
        };
        let kind = if let SendError::Topic { .. } = failure {
            self.plan.hold(&outcome.topic, now + wait);
            IncidentKind::TopicHeld
        } else {
            self.closed_until = Some(now + wait);
            self.half_open = true;
            IncidentKind::BrokerUnavailable
        };
        relay.telemetry.incidents.report(
            kind,
            &relay.source,
            format_args!("{failure}; trying again in {}", crate::telemetry::seconds(wait)),
        );
        // The order is the table's: everything not under way is read again.
        self.plan.clear();
        self.watermark.reset();
    }

    /// Marks what was accepted, and what can never be sent.
    async fn mark(&mut self) -> Result<(), StorageError> {
        if self.accepted.is_empty() && self.dead.is_empty() {
            return Ok(());
        }
        let relay = self.relay;
        let mut conn = relay.pool.acquire().await?;
        if !self.accepted.is_empty() {
            let keep = if relay.settings.retention.is_some() { SentRows::Keep } else { SentRows::Delete };
            DB::mark_sent(&mut conn, &self.accepted, keep).await?;
            crash::point("relay.after-mark");
            self.plan.forget(&self.accepted);
            self.accepted.clear();
        }
        while let Some((id, reason)) = self.dead.last() {
            if DB::mark_outbox_dead(&mut conn, *id, reason).await? {
                relay.telemetry.counters.dead();
                relay.telemetry.incidents.report_event(IncidentKind::EventDead, &relay.source, *id, "", reason);
            }
            self.plan.forget(&[*id]);
            self.dead.pop();
        }
        Ok(())
    }

    /// Renews the lease when it is time; `false` when it is lost.
    async fn keep_lease(&mut self) -> Result<bool, StorageError> {
        let asked = Instant::now();
        if asked < self.renew_at {
            return Ok(true);
        }
        let time = self.relay.settings.lease_time;
        let mut conn = self.relay.pool.acquire().await?;
        let held = DB::renew_leases(&mut conn, std::slice::from_ref(&self.lease.fence), time).await?;
        crash::point("lease.renewed");
        self.lease.renewed(asked, time);
        self.renew_at = asked + renew_every(time);
        Ok(!held.is_empty())
    }
}
