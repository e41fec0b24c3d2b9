//! Running a bus: its loops, each supervised, and their end.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{BusError, Inner, Lane, Served, hints, housekeeping};
use crate::broker::{SendError, Source};
use crate::inbox::processor::InboxProcessor;
use crate::inbox::relay::InboxRelay;
use crate::outbox::relay::OutboxRelay;
use crate::pulse::{Beat, Phase, Role};
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::simulated;
use crate::storage::{Connections, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::telemetry::spans::OWN_SYSTEM;

/// The wait before a loop that has panicked is started again.
const RESTART_WAIT: Duration = Duration::from_secs(1);
/// How long a bus waits for its database at the start.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// A broker that has prepared within this time was not waiting for anybody.
const OPEN_AT_ONCE: Duration = Duration::from_secs(1);

pub(super) async fn run<DB: Storage>(
    bus: &Arc<Inner<DB>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BusError> {
    let shutdown = shutdown.shared();
    let _run = bus.pulse.run();
    let (waiting, mut waits) = watch::channel(false);
    // A start that goes on is let through, so that what it tells others is told.
    let given_up = async {
        shutdown.clone().await;
        let _started = waits.wait_for(|waits| *waits).await;
    };
    let connections = tokio::select! {
        biased;
        connections = start(bus, &waiting) => connections?,
        () = given_up => return Ok(()),
    };
    #[cfg(feature = "macros")]
    housekeeping::warn_of_unserved();

    let (handle, stop) = Shutdown::new();
    // Aborted when this future is dropped, which rolls back what is under way.
    let mut loops = JoinSet::new();
    for lane in bus.relayed() {
        let (connections, lane) = (connections.clone(), lane.clone());
        let beat =
            bus.watch(format!("outbox relay of lane {}", lane.name), Role::OutboxRelay(lane.name.clone()));
        supervise(&mut loops, bus, &beat, stop.clone(), move |bus, beat, stop| {
            bus.relay(&connections, &lane).beat(beat).run(stop)
        });
    }
    for (index, served) in bus.subscriptions.iter().enumerate() {
        for (lane, source) in bus.sources(served) {
            receive(&mut loops, bus, &connections, stop.clone(), lane, source);
        }
        let connections = connections.clone();
        let name = &served.name;
        let beat =
            bus.watch(format!("inbox processor of subscription {name}"), Role::Processor(name.clone()));
        supervise(&mut loops, bus, &beat, stop.clone(), move |bus, beat, stop| {
            bus.processor(&connections, &bus.subscriptions[index]).beat(beat).run(stop)
        });
    }
    for (lane, source) in bus.received_sources() {
        receive(&mut loops, bus, &connections, stop.clone(), lane, source);
    }
    if DB::CARRIES_HINTS {
        let (connections, beat) = (connections.clone(), bus.watch("listener".to_owned(), Role::Other));
        supervise(&mut loops, bus, &beat, stop.clone(), move |bus, _, stop| {
            hints::run(Arc::clone(bus), connections.clone(), stop)
        });
    }
    #[cfg(feature = "otel")]
    {
        let (connections, beat) = (connections.clone(), bus.watch("metrics".to_owned(), Role::Other));
        supervise(&mut loops, bus, &beat, stop.clone(), move |bus, _, stop| {
            super::levels::run(Arc::clone(bus), connections.clone(), stop)
        });
    }
    let beat = bus.watch("housekeeping".to_owned(), Role::Other);
    supervise(&mut loops, bus, &beat, stop, move |bus, _, stop| {
        housekeeping::run(Arc::clone(bus), connections.clone(), stop)
    });
    bus.pulse.phase(Phase::Running);

    shutdown.await;
    bus.pulse.phase(Phase::Stopping);
    handle.stop();
    let finished = async { while loops.join_next().await.is_some() {} };
    if tokio::time::timeout(bus.shutdown_deadline, finished).await.is_err() {
        bus.telemetry.incidents.report(
            IncidentKind::Warning,
            "shutdown",
            "the deadline has passed: what was still under way is rolled back and will be done again",
        );
    }
    loops.shutdown().await;
    Ok(())
}

/// Fills an inbox from one source.
fn receive<DB: Storage>(
    loops: &mut JoinSet<()>,
    bus: &Arc<Inner<DB>>,
    connections: &Connections<DB>,
    stop: Shutdown,
    lane: Lane,
    source: Source,
) {
    let connections = connections.clone();
    let queue = if source.dead_letter_queue { "dead letters of " } else { "" };
    let name = format!("inbox relay of {queue}{}", source.entity());
    let beat = bus.watch(name, Role::InboxRelay(source.subscription.clone()));
    supervise(loops, bus, &beat, stop, move |bus, beat, stop| {
        InboxRelay::new(connections.clone(), Arc::clone(&lane.broker), source.clone())
            .settings(bus.inbox.clone())
            .telemetry(bus.telemetry.clone())
            .beat(beat)
            .run(stop)
    });
}

/// Connects to the database and the brokers, and checks what a bus can't run without.
async fn start<DB: Storage>(
    bus: &Inner<DB>,
    waiting: &watch::Sender<bool>,
) -> Result<Connections<DB>, BusError> {
    let connections = patiently(bus, waiting, || connect(bus)).await?;
    for lane in &bus.lanes {
        let opened = opened(lane, waiting).await;
        opened.map_err(|reason| BusError::Broker { lane: lane.name.clone(), reason })?;
        if !bus.has_outbox {
            continue;
        }
        let relay = bus.relay(&connections, lane);
        if let Some(bound) = patiently(bus, waiting, || relay.bind()).await? {
            return Err(BusError::LaneBound { lane: lane.name.clone(), bound, own: lane.broker.identity() });
        }
    }
    Ok(connections)
}

/// Lets a broker prepare. One that takes its time waits for somebody else, and a stop need not wait with it.
async fn opened(lane: &Lane, waiting: &watch::Sender<bool>) -> Result<(), SendError> {
    let mut opening = lane.broker.open();
    match tokio::time::timeout(OPEN_AT_ONCE, &mut opening).await {
        Ok(opened) => opened,
        Err(_elapsed) => {
            waiting.send_replace(true);
            opening.await
        }
    }
}

async fn connect<DB: Storage>(bus: &Inner<DB>) -> Result<Connections<DB>, StorageError> {
    let connections = bus.store.connections().await?.clone();
    for warning in DB::check(&mut *connections.read().await?).await? {
        bus.telemetry.incidents.report(IncidentKind::Warning, "start", warning);
    }
    Ok(connections)
}

/// Tries again for as long as the database is in trouble that is waited for.
async fn patiently<DB: Storage, T, F: Future<Output = Result<T, StorageError>>>(
    bus: &Inner<DB>,
    waiting: &watch::Sender<bool>,
    attempt: impl Fn() -> F,
) -> Result<T, StorageError> {
    let give_up = Instant::now() + START_PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let error = match attempt().await {
            Err(StorageError::Database(error)) if DB::is_awaited(&error) && Instant::now() < give_up => error,
            other => return other,
        };
        bus.telemetry.incidents.report(IncidentKind::DatabaseTrouble, "start", error);
        waiting.send_replace(true);
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Runs a loop until it ends, and again when it panics: a loop that died in silence would stop the service's events.
fn supervise<DB: Storage, F>(
    loops: &mut JoinSet<()>,
    bus: &Arc<Inner<DB>>,
    beat: &Arc<Beat>,
    stop: Shutdown,
    make: impl Fn(&Arc<Inner<DB>>, Arc<Beat>, Shutdown) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (bus, beat) = (Arc::clone(bus), Arc::clone(beat));
    loops.spawn(simulated::task(async move {
        let mut waiting = stop.clone();
        while let Err(panic) =
            AssertUnwindSafe(make(&bus, Arc::clone(&beat), stop.clone())).catch_unwind().await
        {
            beat.panicked();
            let error = crate::error::HandlerError::panicked(panic.as_ref());
            bus.telemetry.incidents.report(
                IncidentKind::Warning,
                "supervisor",
                format_args!("a loop is restarted: {error}"),
            );
            if waiting.or_stop(tokio::time::sleep(RESTART_WAIT)).await.is_none() {
                return;
            }
        }
        beat.ended();
    }));
}

impl<DB: Storage> Inner<DB> {
    fn watch(&self, name: String, role: Role) -> Arc<Beat> {
        let beat = Beat::new(name, role);
        self.pulse.watch(&beat);
        beat
    }

    fn relay(&self, connections: &Connections<DB>, lane: &Lane) -> OutboxRelay<DB> {
        OutboxRelay::new(connections.clone(), Arc::clone(&lane.broker))
            .store(Arc::clone(&self.store) as _)
            .lane(&lane.name)
            .default_topic(&self.default_topic)
            .settings(self.outbox.clone())
            .telemetry(self.telemetry.clone())
    }

    fn processor(&self, connections: &Connections<DB>, served: &Served<DB>) -> InboxProcessor<DB> {
        InboxProcessor::new(
            connections.clone(),
            served.name.clone(),
            Arc::clone(&served.routes),
            self.states.clone(),
            self.inbox.clone(),
            self.telemetry.clone(),
        )
        .system(self.system_of(served))
        .ignoring_unknown(self.ignores_unknown.contains(&served.name))
    }

    /// What carries a subscription's events; where there are several, the first lane's.
    fn system_of(&self, served: &Served<DB>) -> &'static str {
        let carries = |lane: &&Lane| {
            self.subscriptions_on(&[&lane.name]).iter().any(|subscription| subscription.name == served.name)
        };
        self.lanes.iter().find(carries).map_or(OWN_SYSTEM, |lane| lane.broker.system())
    }

    /// The lanes whose outbox this bus relays.
    pub(super) fn relayed(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|_| self.has_outbox)
    }

    /// Where it receives from for other processes, dead-letter queues included.
    fn received_sources(&self) -> Vec<(Lane, Source)> {
        let mut sources = Vec::new();
        for received in &self.received {
            for lane in self.lanes.iter().filter(|lane| lane.name == received.lane) {
                let source = Source::new(&received.topic, &received.subscription);
                sources.push((lane.clone(), source.clone().dead_letters()));
                sources.push((lane.clone(), source));
            }
        }
        sources
    }

    /// Where a subscription receives from: its topics, by lane, and their dead-letter queues.
    fn sources(&self, served: &Served<DB>) -> Vec<(Lane, Source)> {
        let mut sources = Vec::new();
        for lane in &self.lanes {
            for subscription in self.subscriptions_on(&[&lane.name]) {
                if subscription.name == served.name {
                    let source = Source::new(subscription.topic, subscription.name);
                    sources.push((lane.clone(), source.clone().dead_letters()));
                    sources.push((lane.clone(), source));
                }
            }
        }
        sources
    }
}
