//! A world: databases, services with two instances each, and a time of troubles.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::namespace::{Namespace, SimulatedBroker};
use super::still::Still;
use crate::bus::builder::BusBuilder;
use crate::bus::{BusError, EventBus};
use crate::chance::seeded::Numbers;
use crate::event::{self, DecodeError, DistributedEvent};
use crate::inbox::settings::InboxSettings;
use crate::outbox::publish::{PublishError, PublishOptions};
use crate::outbox::settings::OutboxSettings;
use crate::simulated::{self, Clock, Life, Process, Shared};
use crate::storage::{Storage, StorageError};

/// How often an idle loop looks, unless the service says otherwise.
const POLL: Duration = Duration::from_secs(2);
/// Instances of each service.
const INSTANCES: usize = 2;

type Register = dyn Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite>;

/// What a scenario of [`simulate`](super::simulate) takes place in.
///
/// Between its calls time stands still and nothing happens, so that a scenario can use its databases; [`settle`](Self::settle)
/// is when everything happens.
pub struct World {
    seed: u64,
    pub(super) numbers: Numbers,
    pub(super) shared: Arc<Shared>,
    pub(super) namespace: Arc<Namespace>,
    pub(super) clock: Clock,
    pub(super) services: Vec<Service>,
    folder: PathBuf,
    lives: u64,
    /// While the scenario has the turn.
    turn: Option<Still>,
}

pub(super) struct Service {
    pub(super) name: String,
    pub(super) pool: SqlitePool,
    writing: Arc<tokio::sync::Mutex<()>>,
    register: Box<Register>,
    pub(super) instances: Vec<Option<Running>>,
}

pub(super) struct Running {
    pub(super) process: Arc<Process>,
    bus: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

/// Why a world could not do what its scenario asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// There is no place for the databases: see to the folder for temporary files.
    #[error("the simulation has no place for its databases: {0}")]
    Folder(#[from] std::io::Error),
    /// A database refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A bus can't be built: the text says why.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The pool's database lives in memory, where one connection is all there is: take one of [`World::database`].
    #[error("a database in memory can't be simulated: take the pool from `World::database`")]
    InMemory,
    /// The event can't be published: the text says why.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No service of the world takes the event: register its handler before, and see that it names the same topic.
    #[error(
        "no service here takes {event}: register its handler before, and see that its event names the same topic"
    )]
    NobodyTakes {
        /// The event's name.
        event: &'static str,
    },
    /// A published event is not what its type says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Long after the last trouble something is still not done: most often a handler that goes on failing without its retries
    /// ending, an event that is published again and again, or a delay that is longer than `settle` waits.
    #[error("the world has not become quiet: {0}")]
    Unsettled(String),
}

impl World {
    pub(super) async fn new(seed: u64) -> Result<Self, SimulationError> {
        let shared = Shared::new(seed);
        let name = format!("distributed-events-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        // In memory where that is a place for everybody: what a disk takes in real time is nothing that a seed decides.
        let mut folder = Path::new("/dev/shm").join(&name);
        if std::fs::create_dir(&folder).is_err() {
            folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder)?;
        }
        let turn = Still::take(&shared.turn).await;
        Ok(Self {
            seed,
            numbers: Numbers::named(seed, &["world"], 0),
            namespace: Arc::default(),
            clock: Clock::start(),
            services: Vec::new(),
            folder,
            lives: 0,
            turn: Some(turn),
            shared,
        })
    }

    /// The seed that decides what goes wrong.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A new SQLite database with the library's tables, for a service of this name.
    ///
    /// # Errors
    /// When it can't be created.
    pub async fn database(&self, name: &str) -> Result<SqlitePool, SimulationError> {
        let options = SqliteConnectOptions::new()
            .filename(self.folder.join(format!("{name}.db")))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off);
        let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None).connect_lazy_with(options);
        EventBus::migrate(&pool).await?;
        Ok(pool)
    }

    /// Adds a service: its database, and what its bus registers. Two instances of it run. Settings, handlers and states are
    /// as in production; the broker of the default lane, and of every lane that it names none for, is the world's.
    ///
    /// # Errors
    /// When its bus can't be built.
    pub fn service(
        &mut self,
        pool: &SqlitePool,
        register: impl Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite> + 'static,
    ) -> Result<(), SimulationError> {
        self.add(pool, INSTANCES, register).map(|_bus| ())
    }

    /// Adds a service of so many instances; returns a bus of it that nobody runs.
    pub(super) fn add(
        &mut self,
        pool: &SqlitePool,
        instances: usize,
        register: impl Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite> + 'static,
    ) -> Result<EventBus<Sqlite>, SimulationError> {
        if Sqlite::is_ephemeral(pool) {
            return Err(SimulationError::InMemory);
        }
        // One at a time writes to a database, whichever service it belongs to.
        let identity = Sqlite::identity(pool);
        let mut others = self.services.iter();
        let writing =
            others.find(|other| Sqlite::identity(&other.pool) == identity).map(|other| &other.writing);
        let writing = writing.map(Arc::clone).unwrap_or_default();
        let options = pool.connect_options();
        let name = options.get_filename().file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.services.push(Service {
            name: name.unwrap_or_default(),
            pool: pool.clone(),
            writing,
            register: Box::new(register),
            instances: (0..instances).map(|_| None).collect(),
        });
        // Its subscriptions are there from now on, as they are at a broker.
        let at = self.services.len() - 1;
        let (bus, _process) = self.build(at, 0)?;
        Ok(bus)
    }

    /// Publishes an event from elsewhere: it comes to the broker while the world [settles](Self::settle), after those that
    /// were published before it.
    ///
    /// # Errors
    /// When it can't travel, or when no service takes it.
    pub fn publish<E: DistributedEvent>(&mut self, event: &E) -> Result<(), SimulationError> {
        let event = event::prepare(event, PublishOptions::default())?.event;
        // Without a topic it travels by the default topic of its publisher, which is whatever its receivers take it for.
        if self.namespace.take(E::TOPIC, &event.envelope) == 0 {
            return Err(SimulationError::NobodyTakes { event: E::NAME });
        }
        Ok(())
    }

    /// What services have published of one event so far, each event once, in the order in which the broker took them first.
    ///
    /// # Errors
    /// When one can't be decoded.
    pub fn published<E: DistributedEvent>(&self) -> Result<Vec<E>, SimulationError> {
        let events = self.namespace.published();
        let of_this = events.iter().filter(|event| event.name == E::NAME);
        of_this.map(|event| Ok(E::decode(event.version, event.data.as_bytes())?)).collect()
    }

    /// What has happened so far, line by line, with the simulated seconds.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.shared.lines()
    }

    /// Adds a line to the trace.
    pub fn say(&self, text: &str) {
        self.shared.say("scenario", text);
    }

    /// Lets all services run: a time of troubles, then a time without, until every event is handled or dead and every
    /// published one sent. Then all services are stopped.
    ///
    /// # Errors
    /// When that takes more than twenty simulated minutes.
    pub async fn settle(&mut self) -> Result<(), SimulationError> {
        self.let_run(async |world| world.trouble_all().await).await
    }

    /// Gives the turn up for as long as something runs.
    pub(super) async fn let_run<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut Self) -> Result<T, SimulationError>,
    ) -> Result<T, SimulationError> {
        self.turn = None;
        let ran = simulated::task(run(self)).await;
        self.turn = Some(Still::take(&self.shared.turn).await);
        ran
    }

    fn build(&mut self, at: usize, instance: usize) -> Result<(EventBus<Sqlite>, Arc<Process>), BusError> {
        let service = &self.services[at];
        let name = format!("{}-{instance}.{}", service.name, self.lives);
        self.lives += 1;
        let process = Process::new(name, Arc::clone(&self.shared), Arc::clone(&service.writing));
        let broker =
            SimulatedBroker { namespace: Arc::clone(&self.namespace), process: Arc::clone(&process) };
        let told = Arc::clone(&process);
        // Whatever polls is simulated, too.
        let builder = EventBus::builder(service.pool.clone())
            .outbox(OutboxSettings::default().poll_interval(POLL))
            .inbox(InboxSettings::default().poll_interval(POLL))
            .broker(broker.clone())
            .on_incident(move |incident| told.say(|| format!("{}: {}", incident.source, incident.message)));
        let bus = Life::of(&process).building(|| {
            let registered = (service.register)(builder);
            let lanes: BTreeSet<_> = registered.without_broker().into_iter().map(|(lane, _)| lane).collect();
            lanes.into_iter().fold(registered, |bus, lane| bus.lane(lane, broker.clone())).build()
        })?;
        Ok((bus, process))
    }

    /// Starts what does not run: what was killed, and what gave up because its database was away for too long.
    pub(super) fn start_missing(&mut self) -> Result<(), SimulationError> {
        for (at, instance) in self.places() {
            let running = self.services[at].instances[instance].as_ref();
            if running.is_none_or(|running| running.bus.is_finished()) {
                let (bus, process) = self.build(at, instance)?;
                let (stop, stopped) = oneshot::channel::<()>();
                let told = Arc::clone(&process);
                process.say(|| "starts".to_owned());
                let bus = tokio::spawn(simulated::task(async move {
                    let stopped = async {
                        let _stopped = stopped.await;
                    };
                    if let Err(error) = bus.run_until(stopped).await {
                        told.say(|| format!("its bus has ended: {error}"));
                    }
                }));
                process.runs(bus.abort_handle());
                self.services[at].instances[instance] = Some(Running { process, bus, stop });
            }
        }
        Ok(())
    }

    pub(super) fn places(&self) -> Vec<(usize, usize)> {
        let services = self.services.iter().enumerate();
        services
            .flat_map(|(at, service)| (0..service.instances.len()).map(move |instance| (at, instance)))
            .collect()
    }

    /// Asks it to stop, as a deployment does, and waits until it has.
    pub(super) async fn stop(&mut self, at: usize, instance: usize) {
        if let Some(running) = self.services[at].instances[instance].take() {
            running.process.say(|| "is asked to stop".to_owned());
            let _told = running.stop.send(());
            let _ended = running.bus.await;
        }
    }

    pub(super) async fn stop_all(&mut self) {
        self.shared.say("world", "everybody is asked to stop");
        for (at, instance) in self.places() {
            self.stop(at, instance).await;
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is left of it is in the folder for temporary files.
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}
