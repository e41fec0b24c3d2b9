//! The inbox processor: from the inbox table to the handlers, sharing shards with the other instances.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::handler::States;
use super::holding::Holding;
use super::route::Routes;
use super::settings::InboxSettings;
use super::shard::Shard;
use super::worker::{Core, Worker};
use crate::lease::renew_every;
use crate::pace::Pace;
use crate::pulse::Beat;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, Instance, Storage, StorageError};
use crate::telemetry::spans::OWN_SYSTEM;
use crate::telemetry::{IncidentKind, Telemetry};
use crate::{chance, simulated, wake};

/// Runs the handlers of one subscription on the rows of its inbox, each in the transaction that marks its row.
///
/// [`EventBus`](crate::EventBus) runs one for each of its subscriptions.
#[derive(Debug)]
pub struct InboxProcessor<DB: Storage> {
    core: Core<DB>,
    beat: Arc<Beat>,
}

type Worked<DB> = (Shard<<DB as Storage>::Horizon>, Result<(), StorageError>);

impl<DB: Storage> InboxProcessor<DB> {
    pub(crate) fn new(
        connections: Connections<DB>,
        subscription: String,
        routes: Arc<Routes<DB>>,
        states: States,
        settings: InboxSettings,
        telemetry: Telemetry,
    ) -> Self {
        let source = format!("inbox processor of subscription {subscription}");
        let me = Instance::new(chance::id(), routes.handled(&subscription));
        let core = Core {
            connections,
            subscription,
            source,
            routes,
            states,
            settings,
            telemetry,
            system: OWN_SYSTEM,
            me,
            live: Mutex::new((None, Vec::new())),
            ignores_unknown: false,
            ignored: Mutex::new(HashSet::new()),
        };
        Self { core, beat: Beat::unwatched() }
    }

    /// Ignores events that nobody handles, instead of keeping them as dead: for subscriptions that take every event.
    pub(crate) fn ignoring_unknown(mut self, ignore: bool) -> Self {
        self.core.ignores_unknown = ignore;
        self
    }

    /// What the broker of its events is called.
    pub(crate) fn system(mut self, system: &'static str) -> Self {
        self.core.system = system;
        self
    }

    /// Where it shows that it runs.
    pub(crate) fn beat(mut self, beat: Arc<Beat>) -> Self {
        self.beat = beat;
        self
    }

    /// Processes until the signal is given, then lets the handlers under way finish and gives the shards back. Trouble
    /// with the database is reported, waited out, and never ends it. Dropping the future at any point loses nothing.
    pub async fn run(self, shutdown: Shutdown) {
        let core = Arc::new(self.core);
        let mut run = Run::new(core, self.beat);
        run.until(shutdown).await;
        run.finish().await;
    }
}

/// The state of a running processor.
struct Run<DB: Storage> {
    core: Arc<Core<DB>>,
    /// For looks alone.
    looks: Connections<DB>,
    beat: Arc<Beat>,
    holding: Holding<DB::Horizon>,
    /// Aborted when dropped, which rolls their transactions back.
    workers: JoinSet<Worked<DB>>,
    /// Which shard each has.
    at_work: HashMap<Id, u8>,
    /// Shards that the last look found and no worker was free for. All of them have their turn before the next look, so
    /// that none is passed over and the table is not asked again at the end of each.
    ready: VecDeque<u8>,
    pace: Pace,
    hint: watch::Receiver<u64>,
    hinted_at: Instant,
    renew_at: Instant,
    backoff: Backoff,
    /// After a worker's trouble with the database no new one starts before this.
    resting_until: Option<Instant>,
}

impl<DB: Storage> Run<DB> {
    fn new(core: Arc<Core<DB>>, beat: Arc<Beat>) -> Self {
        let settings = &core.settings;
        Self {
            looks: core.connections.for_one(),
            holding: Holding::new(),
            workers: JoinSet::new(),
            at_work: HashMap::new(),
            ready: VecDeque::new(),
            pace: Pace::new(settings.poll_interval),
            hint: wake::on_received(),
            hinted_at: Instant::now(),
            renew_at: Instant::now(),
            backoff: Backoff::new(settings.backoff_initial, settings.backoff_max),
            resting_until: None,
            core,
            beat,
        }
    }

    async fn until(&mut self, mut shutdown: Shutdown) {
        while !shutdown.is_stopped() {
            self.beat.beat();
            match self.look(&shutdown).await {
                Ok(started) => {
                    if started {
                        self.pace.found();
                    }
                    self.wait(&mut shutdown).await;
                }
                Err(error) => {
                    let wait = self.backoff.next();
                    self.trouble(&error);
                    let _stopped = shutdown.or_stop(tokio::time::sleep(wait)).await;
                }
            }
        }
    }

    /// Renews the leases if it is time, and sets workers on the shards that have something to do.
    async fn look(&mut self, shutdown: &Shutdown) -> Result<bool, StorageError> {
        let now = Instant::now();
        if now >= self.renew_at {
            self.holding.renew(&self.core).await?;
            self.renew_at = now + renew_every(self.core.settings.lease_time);
        }
        self.holding.release_leaving(&self.core).await?;
        self.beat.holds(self.holding.count());
        if self.rests(now).is_some() {
            return Ok(false);
        }
        let mut started = self.start_ready(shutdown);
        if self.free_workers() == 0 || self.holding.idle.is_empty() {
            return Ok(started);
        }

        for shard in self.holding.idle.values_mut() {
            shard.refresh(now, self.core.settings.sweep);
        }
        let lows: Vec<_> = self
            .holding
            .idle
            .values()
            .filter(|shard| !self.holding.is_leaving(shard.number))
            .filter(|shard| !shard.rests(now, self.core.settings.poll_interval, self.hinted_at))
            .map(|shard| (shard.number, shard.watermark.low()))
            .collect();
        let mut ready = {
            let mut conn = self.looks.read().await?;
            DB::ready_shards(&mut conn, &self.core.subscription, &lows).await?
        };
        for (number, _) in lows.iter().filter(|(number, _)| !ready.contains(number)) {
            if let Some(shard) = self.holding.idle.get_mut(number) {
                shard.caught_up(now);
            }
        }
        // No shard goes first every time.
        if !ready.is_empty() {
            let turn = (chance::unit() * ready.len() as f64) as usize % ready.len();
            ready.rotate_left(turn);
        }
        self.ready = ready.into();
        started |= self.start_ready(shutdown);
        Ok(started)
    }

    /// Sets free workers on the shards that are ready; says whether one was.
    fn start_ready(&mut self, shutdown: &Shutdown) -> bool {
        let mut started = false;
        while self.free_workers() > 0
            && let Some(number) = self.ready.pop_front()
        {
            if self.holding.is_leaving(number) {
                continue;
            }
            let Some(shard) = self.holding.idle.remove(&number) else {
                continue;
            };
            let task =
                self.workers.spawn(simulated::task(Worker::new(&self.core).work(shard, shutdown.clone())));
            self.at_work.insert(task.id(), number);
            started = true;
        }
        started
    }

    fn free_workers(&self) -> usize {
        // Where one writer at a time holds the database, a second worker would only wait, and not in a fair queue.
        let workers = if DB::SINGLE_WRITER { 1 } else { self.core.settings.workers };
        workers.saturating_sub(self.workers.len())
    }

    /// Until when no worker starts, because of the database's trouble.
    fn rests(&self, now: Instant) -> Option<Instant> {
        self.resting_until.filter(|until| now < *until)
    }

    /// Waits for a worker, a hint, or the time of the next look.
    async fn wait(&mut self, shutdown: &mut Shutdown) {
        let now = Instant::now();
        // What is due while every worker is busy has to wait for the end of one.
        let retry = match self.rests(now) {
            None if self.free_workers() > 0 => self.holding.idle.values().filter_map(Shard::next_due).min(),
            rests => rests,
        };

        let next =
            [Some(now + self.pace.nothing(now)), retry, Some(self.renew_at)].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            Some(worked) = self.workers.join_next_with_id(), if !self.workers.is_empty() => self.returned(worked),
            Ok(()) = self.hint.changed() => {
                self.hinted_at = Instant::now();
                self.pace.hint(self.hinted_at);
            }

            () = tokio::time::sleep_until(next.unwrap_or(now)) => {}
        }
    }

    fn returned(&mut self, worked: Result<(Id, Worked<DB>), JoinError>) {
        match worked {
            Ok((task, (shard, result))) => {
                self.at_work.remove(&task);
                match result {
                    Ok(()) => self.backoff.reset(),
                    Err(error) => {
                        self.trouble(&error);
                        self.resting_until = Some(Instant::now() + self.backoff.next());
                    }
                }
                self.holding.put_back(shard, self.core.settings.lease_time);
            }
            // A worker catches its handlers' panics, so this is one of our own, or of an error that can't be shown. How
            // far it came is not known, so its shard is left to be taken as that of a process that died (rule 11).
            Err(error) => {
                if let Some(number) = self.at_work.remove(&error.id()) {
                    self.holding.abandon(number);
                }
                self.core.telemetry.incidents.report(
                    IncidentKind::Warning,
                    &self.core.source,
                    format_args!(
                        "a worker ended: {error}; its shard is taken again when its lease has run out"
                    ),
                );
            }
        }
    }

    fn trouble(&self, error: &StorageError) {
        self.core.connections.suspect();
        self.core.telemetry.incidents.report(IncidentKind::DatabaseTrouble, &self.core.source, error);
    }

    async fn finish(&mut self) {
        while let Some(worked) = self.workers.join_next_with_id().await {
            self.returned(worked);
        }
        if let Err(error) = self.holding.retire(&self.core).await {
            self.trouble(&error);
        }
    }
}
