//! One run: two services on one kind of database and over one broker, a load, faults, and what the books say afterwards.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::emulator::Emulator;
use tests::private_server::PrivateServer;

use crate::books::{Ledgers, Left};
use crate::checker::{Finding, check};
use crate::crew::Crew;
use crate::faults::{Fault, Wire, schedule};
use crate::ground::Ground;
use crate::ordering::PUBLISHERS;
use crate::wires::Wires;

/// How long nothing may move before a run is over, whatever is left to be done: longer than any lock, lease or backoff.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long a stall is watched: until it is over, and what comes of it has come.
const STALL: Duration = Duration::from_secs(9);

/// Over which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The local broker of each process, which reaches the other service through its database.
    Local,
    /// Service Bus, as the emulator is.
    Emulator,
}

/// What happens to a run.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Each of these points kills an instance of one service or the other.
    Points(Vec<&'static str>),
    /// The same for points to which only trouble leads, which is made for each.
    Trouble(Vec<&'static str>),
    /// So many faults by the seed.
    Random(usize),
    /// An instance of each service stays at this point until others have taken over, and goes on then.
    Stall(&'static str),
}

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Everything that is left to chance comes from it.
    pub seed: u64,
    /// The broker.
    pub over: Over,
    /// The faults.
    pub plan: Plan,
    /// A protection to be left out, by `DISTRIBUTED_EVENTS_BREAK`.
    pub broken: Option<&'static str>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Events that were committed.
    pub events: usize,
    /// Processes that were killed.
    pub kills: u64,
    /// Whatever else was done to it.
    pub faults: u64,
    /// The points at which processes died.
    pub reached: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// Whether a process has died at this point.
    pub fn has_reached(&self, point: &str) -> bool {
        self.reached.iter().any(|reached| reached.split(':').next() == Some(point))
    }
}

/// Everything that a run has.
pub(crate) struct Run<G: Ground> {
    pub(crate) setting: Setting,
    pub(crate) crew: Crew,
    pub(crate) ledgers: Ledgers<G>,
    wires: Wires,
    mends: Vec<(Instant, Wire, bool)>,
    pub(crate) faults: u64,
    // Last, in this order: what stands on something goes before it.
    emulator: Option<Emulator>,
    server: Option<PrivateServer>,
    folder: TempDir,
}

fn entities() -> Value {
    let topic = |name: &str, subscription: &str| {
        json!({
            "Name": name,
            "Properties": { "RequiresDuplicateDetection": true },
            "Subscriptions": [{ "Name": subscription, "Properties": {
                "RequiresSession": true, "LockDuration": "PT5S", "MaxDeliveryCount": 100,
            }}],
        })
    };
    json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [topic("lines", "billing"), topic("answers", "ordering")] })
}

/// Runs it from the start to the verdict.
pub async fn run<G: Ground>(setting: Setting) -> Outcome {
    let Setting { seed, over, .. } = setting;
    println!("{} over {over:?}, broken: {:?}: DISTRIBUTED_EVENTS_SEED={seed}", G::NAME, setting.broken);
    let mut run = Run::<G>::new(setting).await;
    run.start().await;
    run.ledgers.demand(i64::from(u32::MAX)).await;
    match run.setting.plan.clone() {
        Plan::Points(points) => run.die_at(&points).await,
        Plan::Trouble(points) => run.die_in_trouble(&points).await,
        Plan::Stall(_) => run.tend_for(STALL).await,
        Plan::Random(steps) => {
            for step in schedule(seed, steps, over, G::SERVER.is_some()) {
                run.tend_for(step.after).await;
                println!("{:?}", step.fault);
                run.apply(step.fault).await;
            }
        }
    }
    run.end().await
}

impl<G: Ground> Run<G> {
    async fn new(setting: Setting) -> Self {
        let server = G::SERVER.map(|kind| tokio::task::block_in_place(|| PrivateServer::start(kind)));
        let ledgers = Ledgers::<G>::new(setting.seed, server.as_ref()).await;
        let emulator = (setting.over == Over::Emulator).then(|| Emulator::start(&entities()));
        let mut wires = Wires::default();
        let mut urls = [ledgers.ordering.url(), ledgers.billing.url()];
        if server.is_some() {
            for (url, wire) in urls.iter_mut().zip([Wire::Ordering, Wire::Billing]) {
                *url = wires.put_before_database(wire, url).await;
            }
        }
        let namespace = match &emulator {
            Some(emulator) => {
                let address = wires.put(Wire::Broker, emulator.amqp()).await;
                Some(emulator.connection_string_at(address))
            }
            None => None,
        };
        let folder = tempfile::tempdir().unwrap();
        let broken = setting.broken.map(|what| ("DISTRIBUTED_EVENTS_BREAK", what.to_owned()));
        let mut crew = Crew::new(folder.path(), broken.into_iter().collect());
        let batch = [1, 8][usize::try_from(setting.seed % 2).unwrap()];
        for (service, own, peer) in [("ordering", 0, 1), ("billing", 1, 0)] {
            for instance in 0..PUBLISHERS {
                let mut words = vec![format!("url={}", urls[own]), format!("batch={batch}")];
                match &namespace {
                    Some(namespace) => words.push(format!("namespace={namespace}")),
                    None => words.push(format!("peer={}", urls[peer])),
                }
                if service == "ordering" {
                    words.extend([format!("publisher={instance}"), format!("seed={}", setting.seed)]);
                }
                let stalls_at = match setting.plan {
                    Plan::Stall(point) if instance == 0 => Some(format!("{point}:30")),
                    _ => None,
                };
                crew.add(&format!("{service}-{instance}"), words, stalls_at);
            }
        }
        Self { setting, crew, ledgers, wires, mends: Vec::new(), faults: 0, emulator, server, folder }
    }

    /// Starts everybody, and waits until each service knows that the other wants its events.
    async fn start(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.setting.over == Over::Local && !self.ledgers.know_each_other().await {
            assert!(Instant::now() < end, "the services don't start");
            self.tend_for(Duration::from_millis(20)).await;
        }
    }

    fn tend(&mut self) {
        self.crew.tend();
        let now = Instant::now();
        let wires = &mut self.wires;
        self.mends.retain(|(at, wire, was_silent)| {
            if *at <= now {
                wires.mend(*wire, *was_silent);
            }
            *at > now
        });
    }

    /// Looks after everything for so long.
    pub(crate) async fn tend_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.tend();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn apply(&mut self, fault: Fault) {
        let soon = |time| Instant::now() + time;
        self.faults += u64::from(!matches!(fault, Fault::Kill(_) | Fault::KillAt(..)));
        match fault {
            Fault::Kill(slot) => self.crew.kill(slot, Duration::from_millis(100), None),
            Fault::KillAt(slot, point, times) => {
                self.crew.kill(slot, Duration::ZERO, Some(format!("{point}:{times}")));
            }
            Fault::Stop(slot, time) => self.crew.stop_for(slot, time),
            Fault::Server => {
                if let Some(server) = &self.server {
                    tokio::task::block_in_place(|| {
                        server.kill();
                        server.come_back();
                    });
                }
            }
            Fault::Emulator => {
                if let Some(emulator) = &self.emulator {
                    emulator.kill();
                    tokio::task::block_in_place(|| emulator.come_back());
                }
            }
            Fault::Cut(wire) => self.wires.cut(wire),
            Fault::Silence(wire, time) => {
                self.wires.silence(wire);
                self.mends.push((soon(time), wire, true));
            }
            Fault::Slow(wire, by, time) => {
                self.wires.slow(wire, by);
                self.mends.push((soon(time), wire, false));
            }
        }
    }

    /// Ends the faults and the load, waits until nothing moves, and looks at what is left.
    async fn end(mut self) -> Outcome {
        for (_, wire, was_silent) in std::mem::take(&mut self.mends) {
            self.wires.mend(wire, was_silent);
        }
        self.crew.resume_all();
        let until = self.ledgers.end_demand().await;
        let left = self.wait_until_quiet(until).await;
        self.crew.stop().await;
        let books = self.ledgers.read(left).await;
        let mut findings = check(&books);
        findings.extend(self.crew.died.iter().cloned().map(Finding::Died));
        let outcome = Outcome {
            events: books.placed.len() + books.ledger.len(),
            kills: self.crew.kills,
            faults: self.faults,
            reached: std::mem::take(&mut self.crew.reached),
            findings,
        };
        println!("{} events, {} kills, {} faults", outcome.events, outcome.kills, outcome.faults);
        if !outcome.findings.is_empty() {
            for finding in outcome.findings.iter().take(30) {
                println!("{finding}");
            }
            if self.setting.broken.is_none() {
                self.folder.disable_cleanup(true);
                println!("the instances' logs are in {}", self.folder.path().display());
            }
        }
        outcome
    }

    /// Waits until nothing is left to be done, or nothing has moved for long; returns what is left.
    async fn wait_until_quiet(&mut self, until: i64) -> Left {
        let (mut last, mut moved) = (Left::default(), Instant::now());
        let mut quiet = 0;
        loop {
            let left = self.ledgers.left(until).await;
            quiet = if left.is_nothing() { quiet + 1 } else { 0 };
            if left != last {
                moved = Instant::now();
            }
            // Twice, so that nobody is caught between two steps.
            if quiet > 1 || moved.elapsed() > PATIENCE {
                return left;
            }
            last = left;
            self.tend_for(Duration::from_millis(200)).await;
        }
    }
}
