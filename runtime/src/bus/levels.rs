//! How full the tables are, for gauges, and what brokers have counted: asked for while somebody collects metrics, and not
//! else.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use tokio::sync::Notify;

use super::Inner;
use crate::broker::BrokerStats;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, InboxCounts, OutboxCounts, StateCounts, Storage, StorageError};
use crate::telemetry::IncidentKind;
use crate::telemetry::names::{self, Metric};

/// How often the tables are looked at, where nothing else is said.
pub(super) const EVERY: Duration = Duration::from_secs(15);
/// No setting makes it a load.
const SHORTEST: Duration = Duration::from_millis(10);
/// Where nobody has collected for so long, nobody does: longer than any usual interval of an exporter.
const PATIENCE: Duration = Duration::from_secs(300);
/// What was seen so many looks ago is no longer shown: better nothing than yesterday's figure.
const STALE: u32 = 4;

/// What was seen last, and who wants to know.
#[derive(Debug)]
pub(crate) struct Levels {
    every: Duration,
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    seen: Option<(Instant, OutboxCounts, InboxCounts)>,
    asked_at: Option<Instant>,
}

impl Levels {
    pub(super) fn new(every: Duration) -> Arc<Self> {
        Arc::new(Self { every: every.max(SHORTEST), state: Mutex::default(), asked: Notify::new() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what was seen, and notes that somebody asks.
    fn show(&self, show: impl FnOnce(&OutboxCounts, &InboxCounts)) {
        let mut state = self.state();
        state.asked_at = Some(Instant::now());
        self.asked.notify_one();
        if let Some((at, outbox, inbox)) = &state.seen
            && at.elapsed() < self.every * STALE
        {
            show(outbox, inbox);
        }
    }

    fn is_asked(&self) -> bool {
        self.state().asked_at.is_some_and(|at| at.elapsed() < PATIENCE)
    }
}

/// Looks at the tables for as long as somebody collects.
pub(super) async fn run<DB: Storage>(bus: Arc<Inner<DB>>, connections: Connections<DB>, mut stop: Shutdown) {
    let levels = bus.levels();
    while stop.or_stop(levels.asked.notified()).await.is_some() {
        while levels.is_asked() {
            match look(&connections).await {
                Ok((outbox, inbox)) => levels.state().seen = Some((Instant::now(), outbox, inbox)),
                Err(error) => {
                    bus.telemetry.incidents.report(IncidentKind::DatabaseTrouble, "metrics", error);
                }
            }
            if stop.or_stop(tokio::time::sleep(levels.every)).await.is_none() {
                return;
            }
        }
    }
}

async fn look<DB: Storage>(
    connections: &Connections<DB>,
) -> Result<(OutboxCounts, InboxCounts), StorageError> {
    let mut conn = connections.read().await?;
    Ok((DB::count_outbox(&mut conn).await?, DB::count_inbox(&mut conn).await?))
}

impl<DB: Storage> Inner<DB> {
    /// The levels, whose gauges are made with the first question.
    pub(super) fn levels(self: &Arc<Self>) -> Arc<Levels> {
        let levels = self.levels.get_or_init(|| {
            let levels = Levels::new(self.metrics_every);
            self.make_gauges(&levels);
            self.make_counters();
            levels
        });
        Arc::clone(levels)
    }

    fn make_gauges(self: &Arc<Self>, levels: &Arc<Levels>) {
        let meter = self.telemetry.metrics.meter();
        for metric in [names::OUTBOX_ROWS, names::INBOX_ROWS] {
            let (bus, levels) = (Arc::downgrade(self), Arc::downgrade(levels));
            let rows = meter.u64_observable_gauge(metric.name).with_unit(metric.unit);
            let rows = rows.with_description(metric.description);
            rows.with_callback(move |observer| {
                each(&bus, &levels, &metric, |owner, counts| {
                    for (state, count) in [("pending", counts.pending), ("dead", counts.dead)] {
                        let state = KeyValue::new(names::STATE, state);
                        observer.observe(count, &[owner.clone(), state]);
                    }
                });
            })
            .build();
        }
        for metric in [names::OUTBOX_AGE, names::INBOX_AGE] {
            let (bus, levels) = (Arc::downgrade(self), Arc::downgrade(levels));
            let age = meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
            let age = age.with_description(metric.description);
            age.with_callback(move |observer| {
                each(&bus, &levels, &metric, |owner, counts| {
                    observer.observe(counts.oldest_pending.unwrap_or_default().as_secs_f64(), &[owner]);
                });
            })
            .build();
        }
    }

    fn make_counters(self: &Arc<Self>) {
        let meter = self.telemetry.metrics.meter();
        self.make_counter(&meter, names::LOCKS_LOST, |stats| stats.locks_lost);
        self.make_counter(&meter, names::RECONNECTS, |stats| stats.reconnects);
        self.make_counter(&meter, names::THROTTLED, |stats| stats.throttled);
    }

    fn make_counter(self: &Arc<Self>, meter: &Meter, metric: Metric, read: fn(&BrokerStats) -> u64) {
        let bus = Arc::downgrade(self);
        let counter = meter.u64_observable_counter(metric.name).with_unit(metric.unit);
        let observe = move |observer: &dyn AsyncInstrument<u64>| {
            for broker in bus.upgrade().iter().flat_map(|bus| bus.brokers()) {
                let system = KeyValue::new(names::SYSTEM, broker.system());
                let server = broker.server().map(|server| KeyValue::new(names::SERVER, server.to_owned()));
                let attributes: Vec<_> = [Some(system), server].into_iter().flatten().collect();
                observer.observe(read(&broker.stats()), &attributes);
            }
        };
        counter.with_description(metric.description).with_callback(observe).build();
    }
}

/// Each lane of the outbox, or each subscription of the inbox, also where it has no open row.
fn each<DB: Storage>(
    bus: &Weak<Inner<DB>>,
    levels: &Weak<Levels>,
    metric: &Metric,
    mut observe: impl FnMut(KeyValue, &StateCounts),
) {
    let (Some(bus), Some(levels)) = (bus.upgrade(), levels.upgrade()) else {
        return;
    };
    let is_outbox = [names::OUTBOX_ROWS, names::OUTBOX_AGE].contains(metric);
    levels.show(|outbox, inbox| {
        let (key, mut found, own): (_, _, Vec<&String>) = if is_outbox {
            (names::LANE, outbox.lanes.clone(), bus.relayed().map(|lane| &lane.name).collect())
        } else {
            let served = bus.subscriptions.iter().map(|served| &served.name);
            let received = bus.received.iter().map(|received| &received.subscription);
            (names::SUBSCRIPTION, inbox.subscriptions.clone(), served.chain(received).collect())
        };
        for name in own {
            found.entry(name.clone()).or_default();
        }
        for (name, counts) in &found {
            observe(KeyValue::new(key, name.clone()), counts);
        }
    });
}
