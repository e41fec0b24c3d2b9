//! The outbox relay: from the outbox table to the broker, one leader a lane.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::leader::{Leader, Unfinished};
use super::settings::OutboxSettings;
use crate::broker::Broker;
use crate::envelope::DEFAULT_LANE;
use crate::lease::{Lease, renew_every};
use crate::pulse::Beat;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, InboxStore, PoolInbox, Storage, StorageError};
use crate::telemetry::{IncidentKind, Telemetry};
use crate::{chance, crash};

/// The topic of events that name none.
pub const DEFAULT_TOPIC: &str = "events";

/// Carries one lane's events from the outbox table to a broker, for as long as it runs. Knows no event type, so it can
/// stand alone and serve an application in any language.
///
/// [`EventBus`](crate::EventBus) runs one for each of its lanes.
#[derive(Debug)]
pub struct OutboxRelay<DB: Storage> {
    pub(super) connections: Connections<DB>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) store: Arc<dyn InboxStore>,
    pub(super) lane: String,
    pub(super) source: String,
    pub(super) default_topic: String,
    pub(super) settings: OutboxSettings,
    pub(super) telemetry: Telemetry,
    pub(super) beat: Arc<Beat>,
}

impl<DB: Storage> OutboxRelay<DB> {
    /// A relay of the default lane with default settings, on a pool that [`Storage::open`] has opened.
    #[must_use]
    pub fn new(pool: impl Into<Connections<DB>>, broker: Arc<dyn Broker>) -> Self {
        let connections = pool.into();
        Self {
            store: Arc::new(PoolInbox::over(connections.clone())),
            connections,
            broker,
            lane: DEFAULT_LANE.to_owned(),
            source: relay_of(DEFAULT_LANE),
            default_topic: DEFAULT_TOPIC.to_owned(),
            settings: OutboxSettings::default(),
            telemetry: Telemetry::new(),
            beat: Beat::unwatched(),
        }
    }

    /// The database as brokers see it, where another loop shares it.
    pub(crate) fn store(mut self, store: Arc<dyn InboxStore>) -> Self {
        self.store = store;
        self
    }

    /// The lane it serves.
    #[must_use]
    pub fn lane(mut self, lane: impl Into<String>) -> Self {
        self.lane = lane.into();
        self.source = relay_of(&self.lane);
        self
    }

    /// The topic of events that name none (default `events`).
    #[must_use]
    pub fn default_topic(mut self, topic: impl Into<String>) -> Self {
        self.default_topic = topic.into();
        self
    }

    /// Its settings.
    #[must_use]
    pub fn settings(mut self, settings: OutboxSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Where it tells what it does.
    #[must_use]
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Where it shows that it runs.
    pub(crate) fn beat(mut self, beat: Arc<Beat>) -> Self {
        self.beat = beat;
        self
    }

    /// Binds the lane to this relay's broker; says which broker it is bound to where another live relay has bound it
    /// (rule 23).
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn bind(&self) -> Result<Option<String>, StorageError> {
        let identity = self.broker.identity();
        let bound = DB::bind_lane(&mut *self.connections.write().await?, &self.lane, &identity).await?;
        Ok((bound != identity).then_some(bound))
    }

    /// Relays until the signal is given, then lets what is under way finish and gives the lease back. Trouble with the
    /// database or the broker is reported, waited out, and never ends it. Dropping the future at any point loses nothing.
    pub async fn run(self, mut shutdown: Shutdown) {
        let this = Arc::new(self);
        this.run_shared(&mut shutdown).await;
    }

    async fn run_shared(self: &Arc<Self>, shutdown: &mut Shutdown) {
        let mut backoff = Backoff::new(self.settings.backoff_initial, self.settings.backoff_max);
        // Outlives every leader: an acknowledgement is a fact (rule 25).
        let mut unfinished = Unfinished::default();
        let mut bound = false;
        while !shutdown.is_stopped() {
            self.beat.beat();
            let wait = match self.take_lead(&mut unfinished, &mut bound).await {
                Ok(Some(lease)) => {
                    let since = Instant::now();
                    self.beat.holds(1);
                    let led = Leader::new(self, lease, std::mem::take(&mut unfinished)).run(shutdown).await;
                    self.beat.holds(0);
                    unfinished = led.0;
                    if led.1.is_ok() || since.elapsed() > self.settings.backoff_max {
                        backoff.reset();
                    }
                    match led.1 {
                        Ok(()) => continue,
                        Err(error) => self.trouble(&error, &mut backoff),
                    }
                }
                Ok(None) => renew_every(self.settings.lease_time).min(Duration::from_secs(1)),
                Err(error) => self.trouble(&error, &mut backoff),
            };
            if shutdown.or_stop(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
    }

    /// Takes the lead if nobody has it, once what an earlier leader of this relay left is written.
    async fn take_lead(
        &self,
        unfinished: &mut Unfinished,
        bound: &mut bool,
    ) -> Result<Option<Lease>, StorageError> {
        unfinished.mark(self).await?;
        unfinished.release(&self.connections).await?;
        if !*bound {
            // While nobody leads, the last to start has the say; later the holder of the lease has.
            self.bind().await?;
            *bound = true;
        }
        let asked = Instant::now();
        let name = [format!("outbox:{}", self.lane)];
        let time = self.settings.lease_time;
        let mut conn = self.connections.write().await?;
        let taken = DB::take_leases(&mut conn, &name, chance::id(), 1, time).await?;
        let Some(taken) = taken.into_iter().next() else {
            return Ok(None);
        };
        crash::point("lease.taken");
        unfinished.lease = Some(taken.fence.clone());
        let identity = self.broker.identity();
        let bound = DB::bind_lane(&mut conn, &self.lane, &identity).await?;
        drop(conn);
        if bound != identity {
            // Between two brokers nobody can say which one the lane's events are meant for.
            unfinished.release(&self.connections).await?;
            self.telemetry.incidents.report(
                IncidentKind::Warning,
                &self.source,
                format_args!("another instance has bound this lane to {bound}, and this one to {identity}"),
            );
            return Ok(None);
        }
        unfinished.lease = None;
        tracing::debug!(lane = %self.lane, epoch = taken.fence.epoch, unclean = taken.unclean, "leads the outbox");
        Ok(Some(Lease::new(taken.fence, asked, time)))
    }

    fn trouble(&self, error: &StorageError, backoff: &mut Backoff) -> Duration {
        self.telemetry.incidents.report(IncidentKind::DatabaseTrouble, &self.source, error);
        self.connections.suspect();
        backoff.next().min(DATABASE_WAIT)
    }
}

/// However long the database has been away, its return is seen so soon.
const DATABASE_WAIT: Duration = Duration::from_secs(5);

fn relay_of(lane: &str) -> String {
    format!("outbox relay of lane {lane}")
}
