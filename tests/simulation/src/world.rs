//! One run: two instances of each service, the troubles of a seed, then quiet, and the books.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crash::chance::Chance;
use crash::checker::{Finding, check};
use distributed_events::EventBus;
use sqlx::pool::PoolOptions;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::database::{ModelDatabase, ModelOptions, Server};
use crate::namespace::{Namespace, NamespaceBroker};
use crate::process::Process;
use crate::services::{Kind, books, publish};
use crate::trace::Trace;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is wrong; nothing should be.
    pub findings: Vec<Finding>,
    /// Events that were committed by ordering.
    pub events: usize,
    /// Processes killed.
    pub kills: u64,
    /// Other troubles.
    pub faults: u64,
    /// What happened, where that was wanted.
    pub trace: Vec<String>,
}

/// How long the world may take to become quiet.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Leases of the dead have run out by then, and somebody has taken them over.
const AFTERWARDS: Duration = Duration::from_secs(20);

struct World {
    seed: u64,
    chance: Chance,
    trace: Trace,
    namespace: Arc<Namespace>,
    servers: [Arc<Server>; 2],
    instances: Vec<Instance>,
    /// Orders that are still to be placed.
    left: Arc<AtomicU64>,
    lives: u64,
    kills: u64,
    faults: u64,
}

/// An instance, and its process where it has one.
struct Instance {
    kind: Kind,
    number: usize,
    running: Option<Running>,
}

struct Running {
    process: Arc<Process>,
    bus: JoinHandle<()>,
    publisher: Option<JoinHandle<()>>,
    stop: oneshot::Sender<()>,
}

/// Runs a world. Everything in it takes place in this runtime's paused time.
pub async fn run(seed: u64, traced: bool) -> Outcome {
    let trace = Trace::new(traced);
    let mut chance = Chance::of(seed);
    let namespace = Namespace::new(seed, trace.clone());
    let knows_duplicates = chance.happens(50);
    namespace.add("lines", "billing", "ordering.line-placed", knows_duplicates);
    namespace.add("answers", "ordering", "billing.line-billed", knows_duplicates);
    let servers = [Kind::Ordering, Kind::Billing].map(|kind| {
        let server = Server::new(&format!("{}'s server", kind.name()), trace.clone());
        kind.found(&server);
        server
    });
    let kinds = [Kind::Ordering, Kind::Billing, Kind::Ordering, Kind::Billing];
    let instance = |(number, kind)| Instance { kind, number, running: None };
    let mut world = World {
        seed,
        left: Arc::new((12 + chance.below(20)).into()),
        chance,
        trace,
        namespace,
        servers,
        instances: kinds.into_iter().enumerate().map(instance).collect(),
        lives: 0,
        kills: 0,
        faults: 0,
    };
    world.trouble().await;
    let findings = world.end().await;
    let events = books(&world.servers[0], &world.servers[1]).placed.len();
    Outcome { findings, events, kills: world.kills, faults: world.faults, trace: world.trace.lines() }
}

impl World {
    fn server(&self, kind: Kind) -> &Arc<Server> {
        &self.servers[usize::from(kind == Kind::Billing)]
    }

    fn start(&mut self, at: usize) {
        let (kind, number) = (self.instances[at].kind, self.instances[at].number);
        self.lives += 1;
        let name = format!("{}-{number}.{}", kind.name(), self.lives);
        let process = Process::new(name, self.seed, self.trace.clone());
        let options = ModelOptions { server: Arc::clone(self.server(kind)), process: Arc::clone(&process) };
        let pool = PoolOptions::<ModelDatabase>::new()
            .max_connections(12)
            .acquire_timeout(Duration::from_secs(5))
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        let broker =
            NamespaceBroker { namespace: Arc::clone(&self.namespace), process: Arc::clone(&process) };
        let batch = if self.seed.is_multiple_of(3) { 5 } else { 1 };
        let builder = EventBus::builder(pool.clone()).broker(broker);
        let bus = kind.build(builder, &process, batch).build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let publisher = (kind == Kind::Ordering)
            .then(|| tokio::spawn(publish(bus.clone(), pool, Arc::clone(&process), Arc::clone(&self.left))));
        let told = Arc::clone(&process);
        let bus = tokio::spawn(async move {
            let stopped = async {
                let _stopped = stopped.await;
            };
            if let Err(error) = bus.run_until(stopped).await {
                told.say(|| format!("its bus has ended: {error}"));
            }
        });
        self.instances[at].running = Some(Running { process, bus, publisher, stop });
    }

    fn kill(&mut self, at: usize) {
        if let Some(running) = self.instances[at].running.take() {
            self.kills += 1;
            running.process.kill();
            running.bus.abort();
            running.publisher.inspect(|publisher| publisher.abort());
        }
    }

    /// Asks it to stop, as a deployment does, and waits until it has.
    async fn stop(&mut self, at: usize) {
        if let Some(running) = self.instances[at].running.take() {
            running.process.say(|| "is asked to stop".to_owned());
            running.publisher.inspect(|publisher| publisher.abort());
            let _told = running.stop.send(());
            let _ended = running.bus.await;
        }
    }

    /// A bus gives up where it can't start for a minute; whoever runs it starts it again.
    fn start_missing(&mut self) {
        for at in 0..self.instances.len() {
            if self.instances[at].running.as_ref().is_none_or(|running| running.bus.is_finished()) {
                self.start(at);
            }
        }
    }

    async fn trouble(&mut self) {
        self.start_missing();
        let end = Instant::now() + Duration::from_secs(10 + self.chance.below(50));
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(self.chance.below(4_000))).await;
            let at = usize::try_from(self.chance.below(4)).unwrap_or_default();
            let time = |chance: &mut Chance, most: u64| Duration::from_millis(50 + chance.below(most));
            match self.chance.below(100) {
                0..25 => self.kill(at),
                25..40 => {
                    self.faults += 1;
                    let time = time(&mut self.chance, 20_000);
                    if let Some(running) = &self.instances[at].running {
                        running.process.freeze(time);
                    }
                }
                40..50 => self.stop(at).await,
                50..60 => {
                    self.faults += 1;
                    self.servers[at % 2].go_away(time(&mut self.chance, 5_000));
                }
                60..70 => {
                    self.faults += 1;
                    self.namespace.go_away(time(&mut self.chance, 8_000));
                }
                70..80 => {
                    self.faults += 1;
                    self.namespace.cut();
                }
                80..85 => {
                    self.faults += 1;
                    self.namespace.get_busy(time(&mut self.chance, 5_000));
                }
                85..90 => {
                    self.faults += 1;
                    let by = i64::try_from(self.chance.below(20_000)).unwrap_or_default() - 10_000;
                    self.servers[at % 2].set_clock(by);
                }
                _ => self.start_missing(),
            }
        }
        self.start_missing();
    }

    /// Lets everything come to rest, stops everybody, and looks into the books.
    async fn end(&mut self) -> Vec<Finding> {
        self.trace.say("world", || "no more troubles".to_owned());
        let give_up = Instant::now() + PATIENCE;
        while !self.is_quiet() && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.start_missing();
        }
        tokio::time::sleep(AFTERWARDS).await;
        self.trace.say("world", || "everybody is asked to stop".to_owned());
        for at in 0..self.instances.len() {
            self.stop(at).await;
        }
        let mut books = books(&self.servers[0], &self.servers[1]);
        for server in &self.servers {
            let (inner, name) = (server.inner(), server.name());
            let (outbox, inbox) = inner.pending();
            let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            books.pending.push((format!("rows in the outbox of {name}"), number(outbox)));
            books.pending.push((format!("rows in the inbox of {name}"), number(inbox)));
            books.orphans.push((format!("leases of {name}"), number(inner.held_leases())));
        }
        let (waiting, dead) = self.namespace.waiting();
        let waiting = i64::try_from(waiting + dead).unwrap_or(i64::MAX);
        books.pending.push(("messages in the namespace".to_owned(), waiting));
        check(&books)
    }

    fn is_quiet(&self) -> bool {
        let done =
            self.servers.iter().all(|server| server.inner().pending() == (0, 0) && server.inner().is_idle());
        let mut publishers =
            self.instances.iter().filter_map(|instance| instance.running.as_ref()?.publisher.as_ref());
        let placed = publishers.all(JoinHandle::is_finished);
        self.left.load(Relaxed) == 0 && placed && done && self.namespace.waiting() == (0, 0)
    }
}
