//! The relays as a service of their own, for any application's tables: a bus without handlers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use distributed_events::storage::OperatorStorage;
use distributed_events::{
    BusBuilder, BusError, EventBus, InboxSettings, Incident, IncidentKind, OutboxSettings, shutdown_signal,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::brokers::Namespace;
use super::{config_of, database_of};
use crate::arguments::{General, Relay};
use crate::config::{Config, Errors, Inbox, OnError, Outbox, Subscription, Transport};
use crate::database::{DatabaseUrl, Kind};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::telemetry::Telemetry;

pub(super) async fn run(general: &General, arguments: &Relay, format: Format) -> Result<(), Failure> {
    if general.config.is_none() {
        return Err(Failure::Usage(
            "a relay needs a configuration: say --config FILE; the README's chapter \"Command line\" has one to begin with"
                .to_owned(),
        ));
    }
    let config = config_of(general)?;
    let parts = Parts::of(&config, arguments);
    // Everything that is wrong, at once.
    let mut problems = parts.problems(&config);
    let mut namespaces = Vec::new();
    for lane in &config.lanes {
        match Namespace::of(lane) {
            Ok(namespace) => namespaces.push((lane.name.clone(), namespace)),
            Err(problem) => problems.push(problem),
        }
    }
    let url = match database_of(general) {
        Ok(url) => Some(url),
        Err(problem) => {
            problems.push(problem.to_string());
            None
        }
    };
    let Some(url) = url.filter(|_| problems.is_empty()) else {
        return Err(Failure::Usage(format!("the relay can't start:\n  {}", problems.join("\n  "))));
    };
    // Only looked at.
    let check = arguments.check.then_some(format);
    match url.kind() {
        #[cfg(feature = "postgres")]
        Kind::Postgres => serve::<sqlx::Postgres>(&url, &config, &parts, namespaces, check).await,
        #[cfg(feature = "mysql")]
        Kind::Mysql => serve::<sqlx::MySql>(&url, &config, &parts, namespaces, check).await,
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => serve::<sqlx::Sqlite>(&url, &config, &parts, namespaces, check).await,
        #[allow(unreachable_patterns, reason = "where every database is built in")]
        kind => Err(kind.missing()),
    }
}

/// Which of the two relays run.
struct Parts {
    outbox: bool,
    inbox: bool,
}

impl Parts {
    fn of(config: &Config, arguments: &Relay) -> Self {
        Self {
            outbox: config.outbox.relay.unwrap_or(true) && !arguments.inbox_only,
            inbox: config.inbox.relay.unwrap_or(!config.subscriptions.is_empty()) && !arguments.outbox_only,
        }
    }

    fn problems(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        if config.lanes.is_empty() {
            problems.push(
                "there is no lane: add [lanes.default] with `connection_string_env`, the broker that events travel by"
                    .to_owned(),
            );
        }
        if self.inbox && config.subscriptions.is_empty() {
            problems.push(
                "there is no subscription to receive: add [[subscriptions]] with `topic` and `name`, or leave the inbox out"
                    .to_owned(),
            );
        }
        let over_https = |name: &str| {
            config.lanes.iter().any(|lane| lane.name == name && lane.transport == Transport::Https)
        };
        for subscription in config.subscriptions.iter().filter(|_| self.inbox) {
            if subscription.sessions && over_https(&subscription.lane) {
                problems.push(format!(
                    "subscription {} on topic {} has sessions, which can't be received over HTTPS: say `transport = \
                     \"web-sockets\"` in [lanes.{}]",
                    subscription.name, subscription.topic, subscription.lane
                ));
            }
        }
        if !self.outbox && !self.inbox {
            problems.push("neither the outbox nor the inbox is left to relay: let one of them be".to_owned());
        }
        problems
    }
}

async fn serve<DB: OperatorStorage>(
    url: &DatabaseUrl,
    config: &Config,
    parts: &Parts,
    namespaces: Vec<(String, Namespace)>,
    check: Option<Format>,
) -> Result<(), Failure> {
    // The bus opens its own connections beside these, and waits for a database that is on its way.
    let pool = url.open_later::<DB>(2)?;
    let mut found = Found { url, lanes: Vec::new(), received: Vec::new() };
    if parts.outbox {
        let lanes = namespaces.iter().map(|(lane, namespace)| (lane.clone(), namespace.identity()));
        found.lanes.extend(lanes);
    }
    let mut builder = EventBus::builder(pool).listen(config.listen);
    for (lane, namespace) in namespaces {
        builder = namespace.carry(&lane, builder);
    }
    builder = with_outbox(builder, &config.outbox, parts.outbox);
    builder = with_inbox(builder, &config.inbox, parts.inbox);
    if parts.inbox {
        for subscription in &config.subscriptions {
            builder = builder.receives(&subscription.lane, &subscription.topic, &subscription.name);
            found.received.push(subscription);
        }
    }
    let stop = Arc::new(Stop::default());
    let (told, errors) = (Arc::clone(&stop), config.errors.clone());
    let bus = builder.on_incident(move |incident| told.tell(&errors, incident)).build().map_err(refused)?;
    match check {
        None => {}
        Some(Format::People) => {
            return output::say(&format!("the configuration is right; {found}"));
        }
        Some(Format::Json) => return output::json(&found.json()),
    }

    let telemetry = Telemetry::start(&config.log, &config.telemetry);
    let (outbox, inbox) = found.texts();
    tracing::info!(database = %url, outbox, inbox, "the relay starts");
    let asked = async {
        tokio::select! {
            () = shutdown_signal() => tracing::info!("asked to stop: what is under way is finished"),
            () = stop.asked.notified() => {}
        }
    };
    let ended = bus.run_until(asked).await.map_err(refused);
    if ended.is_ok() {
        let stats = bus.stats();
        tracing::info!(
            sent = stats.sent,
            duplicates = stats.duplicates,
            dead = stats.dead,
            "the relay has stopped"
        );
    }
    telemetry.finish().await;
    ended?;
    stop.reason()
        .map_or(Ok(()), |reason| Err(Failure::Stopped(format!("the relay stopped itself: {reason}"))))
}

fn with_outbox<DB: OperatorStorage>(
    mut builder: BusBuilder<DB>,
    outbox: &Outbox,
    relay: bool,
) -> BusBuilder<DB> {
    let mut settings = OutboxSettings::default();
    if let Some(interval) = outbox.poll_interval {
        settings = settings.poll_interval(interval);
    }
    if let Some(events) = outbox.batch_size {
        settings = settings.batch_size(events as usize);
    }
    if let Some(batches) = outbox.in_flight {
        settings = settings.in_flight(batches as usize);
    }
    if let Some(time) = outbox.lease_time {
        settings = settings.lease_time(time);
    }
    if let Some((initial, max)) = outbox.retry {
        settings = settings.backoff(initial, max);
    }
    if let Some(time) = outbox.keep_sent {
        settings = settings.keep_sent(time);
    }
    if outbox.delete_sent {
        settings = settings.delete_sent();
    }
    if let Some(topic) = &outbox.default_topic {
        builder = builder.default_topic(topic);
    }
    let builder = builder.outbox(settings);
    if relay { builder } else { builder.without_outbox() }
}

fn with_inbox<DB: OperatorStorage>(builder: BusBuilder<DB>, inbox: &Inbox, relay: bool) -> BusBuilder<DB> {
    let mut settings = InboxSettings::default();
    if let Some(messages) = inbox.receive_batch {
        settings = settings.receive_batch(messages as usize);
    }
    if let Some((initial, max)) = inbox.retry {
        settings = settings.backoff(initial, max);
    }
    if let Some(time) = inbox.keep_bodies {
        settings = settings.keep_bodies(time);
    }
    if let Some(time) = inbox.keep_keys {
        settings = settings.keep_keys(time);
    }
    let builder = builder.inbox(settings);
    if relay { builder } else { builder.without_inbox() }
}

/// What a configuration has a relay do.
struct Found<'a> {
    url: &'a DatabaseUrl,
    /// Lanes of the outbox with their brokers.
    lanes: Vec<(String, String)>,
    received: Vec<&'a Subscription>,
}

impl Found<'_> {
    fn texts(&self) -> (String, String) {
        let text = |parts: Vec<String>| if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
        let lanes = self.lanes.iter().map(|(lane, broker)| format!("{lane} by {broker}"));
        let received = self.received.iter().map(|received| format!("{}/{}", received.topic, received.name));
        (text(lanes.collect()), text(received.collect()))
    }

    fn json(&self) -> Value {
        let lanes = self.lanes.iter().map(|(lane, broker)| json!({ "lane": lane, "broker": broker }));
        let received = self.received.iter().map(|received| {
            json!({ "lane": received.lane, "topic": received.topic, "subscription": received.name })
        });
        json!({
            "database": self.url.to_string(),
            "outbox": lanes.collect::<Vec<_>>(),
            "inbox": received.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outbox, inbox) = self.texts();
        write!(f, "database: {}; outbox: {outbox}; inbox: {inbox}", self.url)
    }
}

/// Why the relay is to stop, once an incident has said so.
#[derive(Debug, Default)]
struct Stop {
    reason: Mutex<Option<String>>,
    asked: Notify,
}

impl Stop {
    fn tell(&self, errors: &Errors, incident: &Incident) {
        let wanted = match incident.kind {
            IncidentKind::DatabaseTrouble => errors.database,
            IncidentKind::BrokerUnavailable | IncidentKind::TopicHeld => errors.broker,
            IncidentKind::EventDead => errors.dead_event,
            _ => OnError::Continue,
        };
        if wanted == OnError::Stop {
            let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            reason.get_or_insert_with(|| format!("{}: {}", incident.source, incident.message));
            // Kept for whoever asks later.
            self.asked.notify_one();
        }
    }

    fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn refused(error: BusError) -> Failure {
    match error {
        BusError::Configuration { problems } => {
            Failure::Usage(format!("the relay can't start:\n  {}", problems.join("\n  ")))
        }
        BusError::Storage(error) => error.into(),
        other => Failure::Failed(other.to_string()),
    }
}
