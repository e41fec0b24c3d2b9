//! The embedded broker: delivers straight into the inbox tables of the services on this machine.
//!
//! It is as durable as their databases and needs no server. It remembers in each publisher's database which
//! subscriptions there are, and what it owes to those whose store is down (SEMANTICS.md, rule 27).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Batch, BatchLimits, Broker, ReceiveError, Receiver, SendError, Service, Source};
use crate::retry::Backoff;
use crate::storage::{InboxStore, IncomingEvent, LocalSubscription, StorageError};

/// Owed events delivered with one statement.
const PAGE: u32 = 200;
/// How long a store may take for a delivery before it counts as down, and others need not wait for it: so long, the same
/// again for each such size, and doubled with each failure up to what the store itself allows.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_BYTES: usize = 1024 * 1024;
/// How long a store may take to hear of a subscription where nobody waits for it.
const TELLING: Duration = Duration::from_secs(10);
/// How soon debts are looked at again: to a store that is down, to one that this process doesn't reach, and none.
const OWING: Duration = Duration::from_millis(200);
const UNREACHED: Duration = Duration::from_secs(1);
const PAID: Duration = Duration::from_secs(5);

/// The embedded broker, for services on one machine: tests, small deployments, modular monoliths.
///
/// Clones share one broker; give a clone to each bus of the process. A service in another process is reached through
/// its database: [`reaching`](Self::reaching).
///
/// ```no_run
/// # async fn example(ordering: sqlx::SqlitePool, billing: sqlx::SqlitePool) -> Result<(), distributed_events::BusError> {
/// use distributed_events::{EventBus, LocalBroker};
///
/// let broker = LocalBroker::new();
/// let ordering = EventBus::builder(ordering).broker(broker.clone()).build()?;
/// let billing = EventBus::builder(billing).broker(broker).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct LocalBroker {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    stores: BTreeMap<String, Arc<dyn InboxStore>>,
    /// What the attached services subscribe to, by store.
    subscriptions: BTreeMap<String, Vec<LocalSubscription>>,
    /// Counts the changes of `subscriptions`, and up to which of them each publisher's database has been told.
    changes: u64,
    told: HashMap<String, u64>,
    links: HashMap<(String, String), Arc<tokio::sync::Mutex<Link>>>,
    unheard: BTreeSet<(String, String)>,
}

/// The way from one publisher to one store: deliveries take it one at a time, so that nothing overtakes what is owed.
struct Link {
    owing: bool,
    down_until: Option<Instant>,
    failures: u32,
    backoff: Backoff,
}

impl LocalBroker {
    /// A broker that no service is attached to yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the database of a service in another process reachable: this broker delivers into its inbox, and tells it
    /// of the subscriptions of this process.
    #[must_use]
    pub fn reaching(self, store: Arc<dyn InboxStore>) -> Self {
        self.shared().stores.insert(store.identity().to_owned(), store);
        self
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // The state is a set of maps that no panic can leave half-changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a publisher's database of all subscriptions of this process, if it has not heard of the newest.
    async fn tell(&self, publisher: &dyn InboxStore) -> Result<(), StorageError> {
        let (changes, news) = {
            let shared = self.shared();
            if shared.told.get(publisher.identity()) == Some(&shared.changes) {
                return Ok(());
            }
            (shared.changes, shared.subscriptions.clone())
        };
        for (store, subscriptions) in &news {
            publisher.record_subscriptions(store, subscriptions).await?;
        }
        self.shared().told.insert(publisher.identity().to_owned(), changes);
        Ok(())
    }

    /// The same for every database that this process reaches, each within this time; tells what is in the way.
    async fn tell_all(&self, patience: Duration) -> Result<(), String> {
        let stores: Vec<_> = self.shared().stores.values().cloned().collect();
        let told = stores.iter().map(|store| async move {
            let told = tokio::time::timeout(patience, self.tell(store.as_ref())).await;
            let reason = match told {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => format!("no answer within {patience:?}"),
            };
            Some(format!("{} can't be told of the subscriptions yet: {reason}", store.identity()))
        });
        let untold: Vec<_> = futures_util::future::join_all(told).await.into_iter().flatten().collect();
        if untold.is_empty() { Ok(()) } else { Err(untold.join("; ")) }
    }

    /// Read for every batch: another process may have recorded a subscription just before the event was committed.
    async fn routes(&self, publisher: &dyn InboxStore) -> Result<Vec<LocalSubscription>, StorageError> {
        self.tell(publisher).await?;
        publisher.subscriptions().await
    }

    fn link(&self, publisher: &str, store: &str) -> Arc<tokio::sync::Mutex<Link>> {
        let key = (publisher.to_owned(), store.to_owned());
        let mut shared = self.shared();
        let link = shared.links.entry(key).or_insert_with(|| {
            let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
            // Owing until the publisher's database has been asked.
            Arc::new(tokio::sync::Mutex::new(Link { owing: true, down_until: None, failures: 0, backoff }))
        });
        Arc::clone(link)
    }

    async fn deliver(
        &self,
        publisher: &dyn InboxStore,
        route: &LocalSubscription,
        events: &[IncomingEvent],
    ) -> Result<(), StorageError> {
        let link = self.link(publisher.identity(), &route.store);
        let mut link = link.lock().await;
        let reached = match self.reach(&mut link, publisher, &route.store).await? {
            Some(store) => link.ingest(store.as_ref(), &route.name, events).await,
            None => false,
        };
        if !reached {
            link.owing = true;
            publisher.owe(&route.store, &route.name, events).await?;
        }
        Ok(())
    }

    /// The store, if it can be delivered to right now and is owed nothing any more.
    async fn reach(
        &self,
        link: &mut Link,
        publisher: &dyn InboxStore,
        store: &str,
    ) -> Result<Option<Arc<dyn InboxStore>>, StorageError> {
        if link.down_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        let Some(target) = self.shared().stores.get(store).cloned() else {
            tracing::debug!(store, "not attached to this process: its events are kept for it");
            return Ok(None);
        };
        while link.owing {
            let owed = publisher.owed(store, PAGE).await?;
            link.owing = !owed.is_empty();
            for same in owed.chunk_by(|a, b| a.subscription == b.subscription) {
                let events: Vec<_> = same.iter().map(|owed| owed.event.clone()).collect();
                if !link.ingest(target.as_ref(), &same[0].subscription, &events).await {
                    return Ok(None);
                }
                let seqs: Vec<_> = same.iter().map(|owed| owed.seq).collect();
                publisher.paid(&seqs).await?;
            }
        }
        link.down_until = None;
        Ok(Some(target))
    }

    async fn send_batch(&self, batch: Batch<'_>) -> Result<(), StorageError> {
        let routes = self.routes(batch.from).await?;
        // Side by side, so that no store waits for another: they share no order.
        let deliveries = routes.iter().filter(|route| route.topic == batch.topic).map(|route| async move {
            let taken = batch.events.iter().filter(|event| route.events.contains(&event.name));
            let topic = Some(batch.topic.to_owned());
            let events: Vec<_> = taken
                .map(|event| IncomingEvent { topic: topic.clone(), ..IncomingEvent::from(event) })
                .collect();
            if events.is_empty() { Ok(()) } else { self.deliver(batch.from, route, &events).await }
        });
        let delivered = futures_util::future::join_all(deliveries).await;
        delivered.into_iter().collect::<Result<Vec<()>, _>>()?;
        self.tell_of_unheard(batch, &routes);
        Ok(())
    }

    /// One line in the log for each event name that nobody subscribes to: most often a forgotten subscription.
    fn tell_of_unheard(&self, batch: Batch<'_>, routes: &[LocalSubscription]) {
        for event in batch.events {
            let heard =
                routes.iter().any(|route| route.topic == batch.topic && route.events.contains(&event.name));
            if !heard && self.shared().unheard.insert((batch.topic.to_owned(), event.name.clone())) {
                tracing::warn!(topic = batch.topic, event = %event.name, "no subscription takes this event");
            }
        }
    }

    /// Pays what can be paid now; returns how soon to try again.
    async fn pay_debts(&self, publisher: &dyn InboxStore) -> Result<Duration, StorageError> {
        let routes = self.routes(publisher).await?;
        let stores: BTreeSet<_> = routes.iter().map(|route| route.store.as_str()).collect();
        let mut again = PAID;
        for store in stores {
            let link = self.link(publisher.identity(), store);
            let mut link = link.lock().await;
            if link.owing {
                self.reach(&mut link, publisher, store).await?;
            }
            if link.owing {
                again = again.min(if self.shared().stores.contains_key(store) { OWING } else { UNREACHED });
            }
        }
        Ok(again)
    }
}

impl Link {
    /// Stores events in an inbox; `false` when its store is down, which it then is for a while.
    async fn ingest(&mut self, store: &dyn InboxStore, subscription: &str, events: &[IncomingEvent]) -> bool {
        let bytes: usize = events.iter().map(|event| event.body.as_bytes().len()).sum();
        let sizes = u32::try_from(1 + bytes / PATIENCE_BYTES).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_mul(sizes).saturating_mul(1 << self.failures.min(10));
        // Where it is cut off and stored all the same, it is known when it comes again.
        match tokio::time::timeout(patience, store.ingest(subscription, events)).await {
            Ok(Ok(report)) => {
                if report.conflicts + report.refused > 0 {
                    tracing::error!(
                        store = store.identity(),
                        subscription,
                        conflicts = report.conflicts,
                        refused = report.refused,
                        "events came under an id that another event has, or could not be stored as they are: they are kept dead"
                    );
                }
                self.failures = 0;
                self.backoff.reset();
                true
            }
            Ok(Err(error)) => {
                self.fail(store.identity(), &error);
                false
            }
            Err(_elapsed) => {
                self.fail(store.identity(), &format_args!("no answer within {patience:?}"));
                false
            }
        }
    }

    fn fail(&mut self, store: &str, error: &dyn fmt::Display) {
        let wait = self.backoff.next();
        self.failures = self.failures.saturating_add(1);
        self.down_until = Some(Instant::now() + wait);
        self.owing = true;
        tracing::warn!(store, %error, "can't be delivered to; its events are kept for it, trying again in {wait:?}");
    }
}

impl Broker for LocalBroker {
    fn identity(&self) -> String {
        "local".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(4 * 1024 * 1024, PAGE as usize)
    }

    fn attach(&self, service: Service) {
        let store = service.store.identity().to_owned();
        let mut shared = self.shared();
        let subscriptions = service.subscriptions.into_iter().map(|subscription| LocalSubscription {
            topic: subscription.topic,
            name: subscription.name,
            events: subscription.events,
            store: store.clone(),
        });
        // Several buses of one database, and several lanes of one bus, take their events together: one that is no longer
        // handled ends dead and is seen, one that was not delivered would be lost.
        let known = shared.subscriptions.entry(store.clone()).or_default();
        for subscription in subscriptions {
            let same = |old: &&mut LocalSubscription| {
                (&old.topic, &old.name) == (&subscription.topic, &subscription.name)
            };
            match known.iter_mut().find(same) {
                Some(old) => {
                    old.events.extend(subscription.events);
                    old.events.sort_unstable();
                    old.events.dedup();
                }
                None => known.push(subscription),
            }
        }
        shared.stores.insert(store, service.store);
        shared.changes += 1;
    }

    fn open(&self) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            // What can't be told now is told later; nobody's start waits for another's store.
            if let Err(reason) = self.tell_all(PATIENCE).await {
                tracing::warn!("{reason}");
            }
            Ok(())
        })
    }

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            self.send_batch(batch)
                .await
                .map_err(|error| SendError::Unavailable { reason: error.to_string(), retry_after: None })
        })
    }

    fn maintain<'a>(&'a self, publisher: &'a dyn InboxStore) -> BoxFuture<'a, Option<Duration>> {
        Box::pin(async move {
            Some(self.pay_debts(publisher).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what is owed to local subscriptions can't be read");
                UNREACHED
            }))
        })
    }

    fn receiver<'a>(
        &'a self,
        source: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(async move {
            // Nothing is received this way. But who asks is a subscriber, and asks again until all publishers know of it.
            if !source.dead_letter_queue {
                self.tell_all(TELLING).await.map_err(ReceiveError::Unavailable)?;
            }
            Ok(None)
        })
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("LocalBroker")
            .field("stores", &shared.stores.keys())
            .field("subscriptions", &shared.subscriptions)
            .finish_non_exhaustive()
    }
}
