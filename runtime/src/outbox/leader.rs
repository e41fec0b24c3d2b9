//! The leader of a lane: reads pages, sends batches side by side, marks what was accepted.

mod circuit;
mod position;
mod reading;
mod under_way;
mod unfinished;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::circuit::Circuit;
use self::position::Position;
use self::reading::Looked;
use self::under_way::UnderWay;
use self::unfinished::Marked;
pub(super) use self::unfinished::Unfinished;
use super::plan::Plan;
use super::relay::OutboxRelay;
use super::send::{self, Outcome};
use crate::broker::{BatchLimits, SendError};
use crate::envelope::EventId;
use crate::lease::{Lease, renew_every};
use crate::pace::Pace;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, OutboxRow, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::{crash, simulated, wake};

/// Rows marked by one statement at most.
const MARKED_AT_ONCE: usize = 1_000;

/// Reads, marks, renews its lease and sends side by side: none of them waits for another.
pub(super) struct Leader<DB: Storage> {
    relay: Arc<OutboxRelay<DB>>,
    /// For reads alone, of which there is one at a time.
    reads: Arc<Connections<DB>>,
    lease: Lease,
    renew_at: Instant,
    sweep_at: Instant,
    /// Away while a read has it.
    position: Option<Position<DB>>,
    reading: UnderWay<Looked<DB>>,
    /// Whether what is being read is to be dropped: the order is lost, and everything is to be read again.
    is_stale: bool,
    /// Not before this is there another look.
    look_at: Instant,
    marking: UnderWay<Marked>,
    /// Marked while a read was under way, which may have seen them unmarked.
    forget: Vec<EventId>,
    renewing: UnderWay<(Instant, Result<bool, StorageError>)>,
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

impl<DB: Storage> Leader<DB> {
    pub(super) fn new(relay: &Arc<OutboxRelay<DB>>, lease: Lease, unfinished: Unfinished) -> Self {
        let settings = &relay.settings;
        let now = Instant::now();
        let mut hint = wake::on_published();
        hint.mark_unchanged();
        Self {
            relay: Arc::clone(relay),
            reads: Arc::new(relay.connections.for_one()),
            lease,
            renew_at: now + renew_every(settings.lease_time),
            sweep_at: now + settings.sweep,
            position: Some(Position::new(now)),
            reading: UnderWay::nothing(),
            is_stale: false,
            look_at: now,
            marking: UnderWay::nothing(),
            forget: Vec::new(),
            renewing: UnderWay::nothing(),
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
        // Where the database does not answer, a mark is given up, so that its events are sent once more (rule 25).
        let time = self.relay.settings.lease_time;
        let mut marked = Ok(());
        for ended in self.marking.all_ended(time).await {
            marked = marked.and(self.marked(ended));
        }
        // What was read meanwhile nobody needs.
        drop((self.renewing.all_ended(time).await, self.reading.all_ended(time).await));
        while let Some(ended) = self.in_flight.join_next().await {
            self.ended(ended);
        }
        // Whatever ended it: what the broker has accepted is marked, as far as the database lets us.
        let marked = match marked {
            Ok(()) => self.unfinished.mark(&self.relay).await,
            failed => failed,
        };
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
            while let Some(ended) = self.in_flight.try_join_next() {
                self.ended(ended);
            }
            let now = Instant::now();
            if !self.is_stuck(now) {
                self.relay.beat.beat();
            }
            // What has ended makes room on the wire, which need not stay empty while the outcomes are written.
            self.start_batches(now);
            self.start_marking();
            self.start_renewing(now);
            self.start_maintenance(now);
            self.start_reading(now);
            let wake_at = self.wake_at(now);
            tokio::select! {
                biased;
                () = shutdown.stopped() => {}
                marked = self.marking.ended() => self.marked(marked)?,
                (asked, held) = self.renewing.ended() => {
                    if !held? {
                        self.relay.telemetry.leases_lost("outbox", 1);
                        let incidents = &self.relay.telemetry.incidents;
                        incidents.report(IncidentKind::LeaseLost, &self.relay.source, "another instance leads now");
                        return Ok(());
                    }
                    self.lease.renewed(asked, self.relay.settings.lease_time);
                }
                looked = self.reading.ended() => self.looked(looked)?,
                Some(ended) = self.in_flight.join_next() => self.ended(ended),
                Some(again) = self.maintenance.join_next() => {
                    // A broker that panicked there is asked again at leisure.
                    let again = again.unwrap_or(Some(self.relay.settings.sweep));
                    self.maintain_at = again.map(|wait| Instant::now() + wait);
                }
                // What is hinted at while a read is under way it may have missed, so it is heard after that.
                Ok(()) = self.hint.changed(), if self.reading.is_idle() => {
                    self.look_at = Instant::now();
                    self.pace.hint(self.look_at);
                }
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        Ok(())
    }

    /// When there is something to do that nothing under way will tell of.
    fn wake_at(&self, now: Instant) -> Instant {
        let open_at = self.circuit.shut_until();
        let renew_at = Some(self.renew_at).filter(|_| self.renewing.is_idle());
        let look_at = Some(self.look_at).filter(|_| self.reading.is_idle());
        [self.maintain_at, open_at, self.plan.next_release(), renew_at, look_at]
            .into_iter()
            .flatten()
            .filter(|time| now < *time)
            .fold(now + self.relay.settings.poll_interval, Instant::min)
    }

    /// Marks what there is, and a second part beside the first where one connection does not keep up.
    fn start_marking(&mut self) {
        let most = if DB::SINGLE_WRITER { 1 } else { 2 };
        while self.marking.len() < most {
            let marks = &mut self.unfinished.marks;
            if marks.is_empty() || !self.marking.is_idle() && marks.accepted.len() < MARKED_AT_ONCE / 2 {
                break;
            }
            let (marks, relay) = (marks.take(MARKED_AT_ONCE), Arc::clone(&self.relay));
            self.marking.start(async move { marks.write(&relay).await });
        }
    }

    fn marked(&mut self, marked: Marked) -> Result<(), StorageError> {
        if self.reading.is_idle() {
            self.plan.forget(&marked.written);
        } else {
            self.forget.extend(marked.written);
        }
        self.unfinished.marks.add(marked.left);
        marked.result
    }

    /// Renews the lease when it is time, unless the rest has come to a stand: then another instance is to try.
    fn start_renewing(&mut self, now: Instant) {
        if now < self.renew_at || !self.renewing.is_idle() || self.is_stuck(now) {
            return;
        }
        let (relay, fence) = (Arc::clone(&self.relay), self.lease.fence.clone());
        let time = relay.settings.lease_time;
        self.renew_at = now + renew_every(time);
        self.renewing.start(async move {
            let renewal = async {
                let mut conn = relay.connections.write().await?;
                crash::point("lease.before-renewal");
                let held = DB::renew_leases(&mut conn, std::slice::from_ref(&fence), time).await?;
                crash::point("lease.renewed");
                Ok(!held.is_empty())
            };
            (now, renewal.await)
        });
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let time = self.relay.settings.lease_time;
        self.reading.is_stuck(now, time) || self.marking.is_stuck(now, time)
    }

    fn start_maintenance(&mut self, now: Instant) {
        if self.maintain_at.is_some_and(|time| time <= now) {
            let (broker, store) = (Arc::clone(&self.relay.broker), Arc::clone(&self.relay.store));
            self.maintain_at = None;
            let maintaining = async move { broker.maintain(store.as_ref()).await };
            self.maintenance.spawn(simulated::task(maintaining));
        }
    }

    fn add(&mut self, rows: Vec<OutboxRow>, now: Instant) {
        let ended = self.plan.add(rows, &self.relay.default_topic, now);
        self.unfinished.marks.dead.extend(ended);
    }

    fn start_batches(&mut self, now: Instant) -> bool {
        let relay = &self.relay;
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
            let (lane, telemetry) = (relay.lane.clone(), relay.telemetry.clone());
            self.in_flight.spawn(simulated::task(async move {
                let sent = send::send(broker.as_ref(), store.as_ref(), planned, &lane, &telemetry);
                (round, sent.await)
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
        let relay = Arc::clone(&self.relay);
        self.plan.finished(&outcome.sessions, &outcome.unsent);
        relay.telemetry.counters.sent(outcome.sent.len() as u64);
        self.unfinished.marks.accepted.extend(outcome.sent);
        self.unfinished.marks.dead.extend(outcome.dead);
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
        self.look_at = now;
        match &mut self.position {
            Some(position) => position.reset(now),
            None => self.is_stale = true,
        }
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
}
