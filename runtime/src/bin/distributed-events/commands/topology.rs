//! Topics and subscriptions, from the configuration or from a service's own topology.

use std::collections::BTreeMap;
use std::path::Path;

use distributed_events::topology::{Takes, Topology};
use serde_json::{Value, json};

use super::brokers::Namespace;
use super::config_of;
use crate::arguments::{General, Topology as Arguments};
use crate::config::{Config, Lane, Subscription, Topic};
use crate::failure::Failure;
use crate::output::{self, Format};

pub(super) async fn run(general: &General, arguments: &Arguments, format: Format) -> Result<(), Failure> {
    let config = config_of(general)?;
    let mut topologies = match &arguments.from {
        Some(path) => read(path)?,
        None => declared(&config)?,
    };
    if let Some(lane) = &arguments.lane {
        topologies.retain(|topology| topology.lanes.contains(lane));
        if topologies.is_empty() {
            return Err(Failure::Usage(format!("nothing is declared for lane {lane}")));
        }
    }
    if topologies.is_empty() {
        return Err(Failure::Usage(
            "no topology is declared there: there is nothing to show or to check".to_owned(),
        ));
    }
    let problems: Vec<_> = topologies.iter().flat_map(Topology::problems).collect();
    if !problems.is_empty() {
        return Err(Failure::Usage(format!(
            "Service Bus can't have this topology:\n  {}",
            problems.join("\n  ")
        )));
    }
    let what = &arguments.what;
    if what.ensure || what.check {
        return look(&config, &topologies, what.ensure, format).await;
    }
    match format {
        Format::Json if what.bicep => {
            let bicep = topologies.iter().map(|topology| {
                json!({ "broker": topology.broker, "lanes": topology.lanes, "bicep": topology.to_bicep() })
            });
            output::json(&bicep.collect())
        }
        Format::Json => output::json(&serde_json::to_value(&topologies).unwrap_or(Value::Null)),
        Format::People => {
            let text =
                |topology: &Topology| if what.bicep { topology.to_bicep() } else { topology.to_string() };
            output::say(&topologies.iter().map(text).collect::<Vec<_>>().join("\n\n"))
        }
    }
}

/// What a service wrote of `bus.topology()`.
pub(super) fn read(path: &Path) -> Result<Vec<Topology>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!(
            "{} can't be read: {error}; it is to hold the JSON of `bus.topology()`, or of one topology of it",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    match serde_json::from_str::<Vec<Topology>>(&text) {
        Ok(topologies) => Ok(topologies),
        Err(_) => serde_json::from_str(&text).map(|topology| vec![topology]).map_err(|error| wrong(&error)),
    }
}

/// What the configuration declares, a topology for each broker.
pub(super) fn declared(config: &Config) -> Result<Vec<Topology>, Failure> {
    if config.topics.is_empty() && config.subscriptions.is_empty() {
        return Err(Failure::Usage(
            "no topology is declared: add [[topics]] and [[subscriptions]] to the configuration (--config FILE), or give a \
             service's own with --from FILE"
                .to_owned(),
        ));
    }
    refuse_differing(config)?;
    let mut topologies: BTreeMap<String, Topology> = BTreeMap::new();
    let mut of = |lane: &str, change: &dyn Fn(&mut Topology)| {
        let broker = broker_of(config, lane);
        let topology =
            topologies.entry(broker.clone()).or_insert_with(|| Topology::new(broker, [] as [&str; 0]));
        if !topology.lanes.iter().any(|known| known == lane) {
            topology.lanes.push(lane.to_owned());
        }
        change(topology);
    };
    for topic in &config.topics {
        of(&topic.lane, &|topology| {
            let settings = &mut topology.topic(&topic.name).settings;
            if let Some(window) = topic.duplicate_detection {
                settings.duplicate_detection = Some(window);
            }
            settings.default_ttl = topic.default_ttl;
        });
    }
    for subscription in &config.subscriptions {
        of(&subscription.lane, &|topology| {
            let takes = if subscription.everything {
                Takes::Everything
            } else {
                Takes::Events(subscription.events.clone())
            };
            let found =
                topology.subscribe(&subscription.topic, &subscription.name, takes, subscription.sessions);
            if let Some(time) = subscription.lock_duration {
                found.settings.lock_duration = time;
            }
            if let Some(count) = subscription.max_delivery_count {
                found.settings.max_delivery_count = count;
            }
        });
    }
    Ok(topologies.into_values().collect())
}

/// Two lanes may have one broker, where what both declare is one.
fn refuse_differing(config: &Config) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let mut tell = |what: String, keys: Vec<&str>, one: &str, other: &str| {
        if !keys.is_empty() {
            let keys = keys.join(", ");
            problems.push(format!(
                "{other}: {what} is declared at {one} already, by a lane of the same broker, and otherwise ({keys})"
            ));
        }
    };
    for (n, topic) in config.topics.iter().enumerate() {
        let same = |other: &&Topic| {
            other.name == topic.name && broker_of(config, &other.lane) == broker_of(config, &topic.lane)
        };
        if let Some(other) = config.topics[..n].iter().find(same) {
            tell(format!("topic {}", topic.name), topic.differing(other), &other.at, &topic.at);
        }
    }
    for (n, subscription) in config.subscriptions.iter().enumerate() {
        let same = |other: &&Subscription| {
            (&other.topic, &other.name) == (&subscription.topic, &subscription.name)
                && broker_of(config, &other.lane) == broker_of(config, &subscription.lane)
        };
        if let Some(other) = config.subscriptions[..n].iter().find(same) {
            let what = format!("subscription {} on topic {}", subscription.name, subscription.topic);
            tell(what, subscription.differing(other), &other.at, &subscription.at);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!("a topology says two things of one:\n  {}", problems.join("\n  "))))
}

/// The broker as it names itself, where its connection string is at hand: a topology can be shown without one.
fn broker_of(config: &Config, lane: &str) -> String {
    let namespace = lane_of(config, lane).and_then(|lane| Namespace::of(lane).ok());
    namespace.map_or_else(|| format!("service-bus of lane {lane}"), |namespace| namespace.identity())
}

fn lane_of<'a>(config: &'a Config, name: &str) -> Option<&'a Lane> {
    config.lanes.iter().find(|lane| lane.name == name)
}

/// Compares with what is there, or creates what is missing.
async fn look(config: &Config, topologies: &[Topology], ensure: bool, format: Format) -> Result<(), Failure> {
    let (mut reports, mut differs) = (Vec::new(), false);
    for topology in topologies {
        let lane = topology.lanes.iter().find_map(|lane| lane_of(config, lane));
        let Some(lane) = lane else {
            return Err(Failure::Usage(format!(
                "there is no [lanes.{}] in the configuration, which says how its broker is reached",
                topology.lanes.first().map_or("default", String::as_str)
            )));
        };
        let namespace = Namespace::of(lane).map_err(Failure::Usage)?;
        let report = namespace.topology(topology, ensure).await;
        let report = report.map_err(|error| Failure::Failed(error.to_string()))?;
        differs |= !report.is_as_wanted();
        match format {
            Format::People => output::say(&format!("{}\n{report}", topology.broker))?,
            Format::Json => reports.push(json!({
                "broker": topology.broker,
                "as_wanted": report.is_as_wanted(),
                "report": serde_json::to_value(&report).unwrap_or(Value::Null),
            })),
        }
    }
    if format == Format::Json {
        output::json(&Value::from(reports))?;
    }
    if differs {
        return Err(Failure::Differs("the topology is not as it should be".to_owned()));
    }
    Ok(())
}
