//! What a bus must satisfy before it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::builder::BusBuilder;
use super::{BusError, EventBus, Inner, Received, Served};
use crate::broker::{Service, Subscription};
use crate::inbox::bind::{BoundHandler, EventShape};
use crate::inbox::handler::States;
use crate::inbox::route::Routes;
use crate::pulse::Pulse;
use crate::storage::{PoolInbox, PoolSettings, Storage};
use crate::topology::{subscription_problem, topic_problem};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn build<DB: Storage>(mut builder: BusBuilder<DB>) -> Result<EventBus<DB>, BusError> {
    let mut problems = builder.outbox.problems();
    problems.extend(builder.inbox.problems());
    check_lanes(&builder, &mut problems);
    check_states(&builder, &mut problems);
    check_names(&builder, &mut problems);
    check_horizon(&builder, &mut problems);
    check_parts(&builder, &mut problems);
    #[cfg(feature = "macros")]
    check_declared(&builder, &mut problems);

    let mut by_subscription: BTreeMap<&'static str, Vec<BoundHandler<DB>>> = BTreeMap::new();
    for handler in std::mem::take(&mut builder.handlers) {
        by_subscription.entry(handler.declaration.settings.subscription()).or_default().push(handler);
    }
    let mut subscriptions = Vec::new();
    for (name, handlers) in by_subscription {
        match Routes::new(handlers, &builder.inbox) {
            Ok(routes) => subscriptions.push(Served { name: name.to_owned(), routes: Arc::new(routes) }),
            Err(found) => problems.extend(found),
        }
    }
    check_ignored(&builder, &subscriptions, &mut problems);
    let busy_timeout = check_timeouts(&builder, &subscriptions, &mut problems);
    if !problems.is_empty() {
        return Err(BusError::Configuration { problems });
    }

    // One for the leases, one for each loop that may write at the same time as the workers; an outbox relay reads, marks
    // twice and renews side by side, an inbox relay stores two batches.
    let loops = 4 + builder.lanes.len() * 4 + subscriptions.len() * (5 + builder.inbox.workers);
    let loops = loops + 4 * builder.received.len();
    let loops = u32::try_from(loops).unwrap_or(u32::MAX);
    let store = Arc::new(PoolInbox::beside(builder.pool, PoolSettings::new(loops.min(64), busy_timeout)));
    let inner = Inner {
        store: Arc::clone(&store),
        lanes: builder.lanes,
        default_topic: builder.default_topic,
        outbox: builder.outbox,
        inbox: builder.inbox,
        subscriptions,
        published: builder.published,
        states: builder.states,
        ignores_unknown: builder.ignores_unknown,
        shutdown_deadline: builder.shutdown_deadline,
        listens: builder.listens,
        received: builder.received,
        has_outbox: builder.has_outbox,
        has_inbox: builder.has_inbox,
        telemetry: builder.telemetry,
        #[cfg(feature = "otel")]
        metrics_every: builder.metrics_every,
        #[cfg(feature = "otel")]
        levels: std::sync::OnceLock::new(),
        pulse: Pulse::default(),
        thresholds: builder.thresholds,
    };
    #[cfg(feature = "macros")]
    super::housekeeping::note_served(&inner);
    for lane in &inner.lanes {
        // Lanes with one broker, or with local ones, which all record in the same tables, share what they are told: the
        // events of one lane must not replace those of another.
        let lanes = inner.lanes_of(&lane.broker.identity());
        let service = Service::new(Arc::clone(&store) as _, inner.subscriptions_on(&lanes));
        lane.broker.attach(service.publishing(inner.topics_on(&lanes)));
    }
    Ok(EventBus { inner: Arc::new(inner) })
}

impl<DB: Storage> Inner<DB> {
    /// The subscriptions whose events come by these lanes, one for each topic they stand on.
    pub(super) fn subscriptions_on(&self, lanes: &[&str]) -> Vec<Subscription> {
        let mut found: BTreeMap<(String, String), (BTreeSet<String>, bool)> = BTreeMap::new();
        for served in &self.subscriptions {
            for handler in served.routes.handlers().filter(|handler| lanes.contains(&handler.event.lane)) {
                let topic = handler.event.topic.map_or_else(|| self.default_topic.clone(), str::to_owned);
                let (names, ordered) = found.entry((topic, served.name.clone())).or_default();
                names.extend(handler.event.names().map(str::to_owned));
                *ordered |= handler.event.has_session && !handler.declaration.settings.unordered;
            }
        }
        found
            .into_iter()
            .map(|((topic, name), (events, ordered))| {
                let everything = self.ignores_unknown.contains(&name);
                Subscription::new(topic, name, events.into_iter().collect())
                    .ordered(ordered)
                    .everything(everything)
            })
            .collect()
    }
}

fn check_lanes<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    if builder.lanes.is_empty() {
        problems.push("the bus has no broker: add `.broker(LocalBroker::new())`, or another one".to_owned());
        return;
    }
    let mut names = BTreeSet::new();
    for lane in &builder.lanes {
        if !names.insert(lane.name.as_str()) {
            problems.push(format!("lane {} has two brokers: a lane has one", lane.name));
        }
    }
    for (lane, event) in builder.without_broker() {
        problems.push(format!(
            "event {event} travels in lane {lane}, for which the bus has no broker: add `.lane(\"{lane}\", broker)`"
        ));
    }
}

impl<DB: Storage> BusBuilder<DB> {
    /// The lanes for which there is no broker, each with an event that travels in it.
    pub(crate) fn without_broker(&self) -> BTreeSet<(&'static str, &'static str)> {
        let events = self.handlers.iter().map(|handler| &handler.event).chain(&self.published);
        let travels = |event: &&EventShape| !self.lanes.iter().any(|lane| lane.name == event.lane);
        events.filter(travels).map(|event| (event.lane, event.name)).collect()
    }
}

/// What is left to other processes, and what is done for them.
fn check_parts<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    let works_on_inbox = !builder.handlers.is_empty() || !builder.received.is_empty();
    if works_on_inbox && !builder.has_inbox {
        problems.push(
            "`.without_inbox()` leaves the inbox to another process, and this bus has handlers or receives for others: leave \
             one out"
                .to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    for Received { lane, topic, subscription } in &builder.received {
        let receives = format!("`.receives(\"{lane}\", \"{topic}\", \"{subscription}\")`");
        if !builder.lanes.iter().any(|known| known.name == *lane) {
            problems.push(format!(
                "{receives}: the bus has no broker for this lane: add `.lane(\"{lane}\", broker)`"
            ));
        }
        for problem in [topic_problem(topic), subscription_problem(subscription)].into_iter().flatten() {
            problems.push(format!("{receives}: the name {problem}"));
        }
        let handled = builder
            .handlers
            .iter()
            .any(|handler| handler.declaration.settings.subscription() == subscription);
        if handled || !seen.insert((lane, topic, subscription)) {
            problems.push(format!("{receives}: it is received already: leave this out"));
        }
    }
}

/// A mistyped name would ignore nothing, and what it was meant for would end dead.
fn check_ignored<DB: Storage>(
    builder: &BusBuilder<DB>,
    subscriptions: &[Served<DB>],
    problems: &mut Vec<String>,
) {
    let mut unserved: Vec<_> = builder
        .ignores_unknown
        .iter()
        .filter(|name| !subscriptions.iter().any(|served| served.name == **name))
        .collect();
    unserved.sort_unstable();
    for name in unserved {
        problems.push(format!(
            "`.ignore_unknown_events(\"{name}\")` names a subscription for which the bus has no handler: mend the name, or register its handlers"
        ));
    }
}

fn check_states<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    for handler in &builder.handlers {
        problems.extend(missing_states(handler, &builder.states));
    }
}

/// The states that a handler asks for and that are not there, as sentences.
pub(super) fn missing_states<DB: Storage>(handler: &BoundHandler<DB>, states: &States) -> Vec<String> {
    let missing = handler.states.iter().filter(|key| !states.contains(key));
    let told = missing.map(|key| {
        format!(
            "{} asks for State<{}>, and the bus has none: add `.state(value)`",
            handler.declaration, key.name
        )
    });
    told.collect()
}

fn check_names<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    for handler in &builder.handlers {
        let subscription = handler.declaration.settings.subscription();
        // Service Bus's limits for names, kept everywhere so that a service can move there.
        if let Some(problem) = subscription_problem(subscription) {
            problems.push(format!(
                "{}: the subscription's name `{}` {problem}",
                handler.declaration,
                subscription.escape_debug()
            ));
        }
    }
    let default = builder.default_topic.as_str();
    if let Some(problem) = topic_problem(default) {
        problems.push(format!("`.default_topic(\"{}\")`: the name {problem}", default.escape_debug()));
    }
    let handled = builder.handlers.iter().map(|handler| &handler.event);
    let events = handled.chain(&builder.published);
    let topics: BTreeSet<_> = events.filter_map(|event| Some((event.topic?, event.name))).collect();
    for (topic, event) in &topics {
        if let Some(problem) = topic_problem(topic) {
            problems.push(format!("event {event}: the topic's name `{}` {problem}", topic.escape_debug()));
        }
    }
    let topics = topics.iter().map(|(topic, _)| *topic).chain([default]);
    check_spellings("topics", topics.collect(), problems);
    let handlers = builder.handlers.iter();
    let subscriptions = handlers.map(|handler| handler.declaration.settings.subscription());
    check_spellings("subscriptions", subscriptions.collect(), problems);
}

/// Service Bus tells no upper from lower case: these would be one there, and two everywhere else.
fn check_spellings(what: &str, names: BTreeSet<&str>, problems: &mut Vec<String>) {
    let mut spellings: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        if let Some(known) = spellings.insert(name.to_lowercase(), name) {
            problems.push(format!(
                "the {what} `{known}` and `{name}` differ in upper and lower case alone, which is no difference to Service Bus: write both the same, or rename one"
            ));
        }
    }
}

/// Rule 15: the keys must outlive every possible re-send.
fn check_horizon<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    // Without retention an event can still be late by its delay, and be sent twice around its mark.
    let retention = builder.outbox.retention.unwrap_or_default();
    let least = retention.saturating_add(builder.longest_delay).saturating_add(DAY);
    if builder.has_inbox && builder.inbox.keep_keys < least {
        problems.push(format!(
            "inbox keep_keys is {}, and an event could be sent again for {} (outbox retention, the longest delay, and a day): a late copy would run twice; raise keep_keys or lower the others",
            days(builder.inbox.keep_keys),
            days(least)
        ));
    }
}

fn days(duration: Duration) -> String {
    format!("{:.1} days", duration.as_secs_f64() / DAY.as_secs_f64())
}

/// Rule 31: with one writer at a time a lease waits behind a handler, so that handler timeout < busy timeout < lease / 3.
fn check_timeouts<DB: Storage>(
    builder: &BusBuilder<DB>,
    subscriptions: &[Served<DB>],
    problems: &mut Vec<String>,
) -> Duration {
    let lease = builder.inbox.lease_time.min(builder.outbox.lease_time);
    let busy = builder.busy_timeout.unwrap_or(lease * 3 / 10);
    if DB::SINGLE_WRITER {
        let handler =
            subscriptions.iter().map(|served| served.routes.longest_timeout()).max().unwrap_or_default();
        if handler >= busy {
            problems.push(format!(
                "a handler may run for {handler:?} while it holds the database's only write lock, and others wait for it no longer than busy_timeout, {busy:?}: lower the handler's timeout, or raise busy_timeout and lease_time"
            ));
        }
        if busy >= lease / 3 {
            problems.push(format!(
                "busy_timeout is {busy:?}, which must be less than a third of the shorter lease_time, {lease:?}: a lease could not be renewed in time"
            ));
        }
    } else if busy.is_zero() {
        problems.push("busy_timeout is zero: no statement would wait for a lock".to_owned());
    }
    busy
}

/// Handlers that are declared for a subscription of this bus must be registered, or left out on purpose.
#[cfg(feature = "macros")]
fn check_declared<DB: Storage>(builder: &BusBuilder<DB>, problems: &mut Vec<String>) {
    let served: BTreeSet<_> =
        builder.handlers.iter().map(|handler| handler.declaration.settings.subscription()).collect();
    for record in crate::inbox::discovery::records() {
        let declaration = record.declaration;
        let subscription = declaration.settings.subscription();
        let registered = builder.handlers.iter().any(|handler| handler.key == record.key());
        if served.contains(subscription)
            && !registered
            && !builder.without.contains(&record.key())
            && record.bind::<DB>().is_some()
        {
            let path = format!("{}::{}", declaration.module, declaration.name);
            problems.push(format!(
                "{declaration} is declared for subscription {subscription}, which this bus serves, but it is not registered, so {} would end dead or be handled in part: add `.handler::<{path}>()`, or leave it out on purpose with `.without::<{path}>()`",
                record.event
            ));
        }
    }
}
