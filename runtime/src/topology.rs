//! What a bus needs at its broker: topics, subscriptions, rules and their settings, derived from the events that it
//! handles and publishes.
//!
//! It is plain data: print it, keep it as JSON, deploy it as Bicep ([`Topology::to_bicep`]), or have it created and
//! checked by `ServiceBus::ensure_topology`.
//!
//! ```no_run
//! # async fn example(pool: sqlx::SqlitePool) -> Result<(), distributed_events::BusError> {
//! use distributed_events::{EventBus, LocalBroker};
//!
//! let bus = EventBus::builder(pool).broker(LocalBroker::new()).build()?;
//! for topology in bus.topology() {
//!     println!("{topology}\n\n{}", topology.to_bicep());
//! }
//! # Ok(()) }
//! ```

mod bicep;
mod names;
mod report;
mod show;
mod span;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use report::{Drift, Entity, Foreign, TopologyReport};

pub(crate) use names::{DEFAULT_RULE, hashed_rule_name, rule_name, subscription_problem, topic_problem};
#[cfg(any(feature = "service-bus", feature = "service-bus-http"))]
pub(crate) use span::{read as read_span, show as show_span, write as write_span};

/// Topics with their subscriptions, as one broker is to have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Topology {
    /// The broker that it is for, as it names itself.
    pub broker: String,
    /// The lanes whose events travel there.
    pub lanes: Vec<String>,
    /// The topics, by name.
    pub topics: Vec<Topic>,
}

/// A topic that events are published to or received from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: TopicSettings,
    /// This service's subscriptions on it, by name. Other services have theirs beside them.
    pub subscriptions: Vec<Subscription>,
}

/// Settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopicSettings {
    /// For how long the topic drops what comes twice under one id; none for not at all. It can't be turned on or off
    /// later.
    ///
    /// Default 10 minutes: the outbox sends again what may not have arrived, and most of that ends here. The inbox drops
    /// the rest.
    #[serde(with = "span::optional_text")]
    pub duplicate_detection: Option<Duration>,
    /// How long an event without a time to live of its own is kept; none, the default, for ever. A shorter time would
    /// also cut off the longer times that publishers ask for.
    #[serde(with = "span::optional_text")]
    pub default_ttl: Option<Duration>,
}

/// A subscription that the bus receives from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: SubscriptionSettings,
    /// What it takes: each rule lets some events through.
    pub rules: Vec<Rule>,
}

/// Settings of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionSettings {
    /// Whether it keeps the events of a session in order; it can't be turned on or off later. True where a handled event
    /// has a session and a handler of it isn't `unordered`.
    pub sessions: bool,
    /// How long a received event is ours before the broker gives it to another.
    ///
    /// Default 1 minute: an event is settled as soon as its batch is in the inbox, which takes milliseconds, so there is
    /// time for a slow database without renewing; and what a dead process held waits no longer than that.
    #[serde(with = "span::text")]
    pub lock_duration: Duration,
    /// After so many failed deliveries the broker puts an event into its dead-letter queue.
    ///
    /// Default 100, where Service Bus has 10: handlers' failures are counted in the inbox, and a delivery fails only when
    /// a process dies or its database goes away while it receives, which is no fault of the event's.
    pub max_delivery_count: u32,
    /// How long an event is kept at most; none, the default, for ever.
    #[serde(with = "span::optional_text")]
    pub default_ttl: Option<Duration>,
    /// Whether expired events go to the dead-letter queue, where the bus finds them, instead of vanishing (default true).
    pub dead_letter_on_expiry: bool,
    /// The same for events on which a filter fails (default true).
    pub dead_letter_on_filter_error: bool,
}

/// A rule of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it lets through.
    pub filter: Filter,
}

/// What a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// Every event of the topic.
    Everything,
    /// Events of this name, which stands in the message's subject (`Label`).
    Subject(String),
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self { duplicate_detection: Some(Duration::from_secs(600)), default_ttl: None }
    }
}

impl Default for SubscriptionSettings {
    fn default() -> Self {
        Self {
            sessions: false,
            lock_duration: Duration::from_secs(60),
            max_delivery_count: 100,
            default_ttl: None,
            dead_letter_on_expiry: true,
            dead_letter_on_filter_error: true,
        }
    }
}

/// What a subscription is to take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// Every event of its topic.
    Everything,
    /// Events of these names.
    Events(Vec<String>),
}

impl Topology {
    /// A topology without topics, for a broker that carries these lanes.
    ///
    /// ```
    /// use distributed_events::topology::{Takes, Topology};
    ///
    /// let mut topology = Topology::new("service-bus:shop.servicebus.windows.net", ["default"]);
    /// topology.subscribe("orders", "billing", Takes::Events(vec!["ordering.order-placed".into()]), true);
    /// topology.topic("payments");
    /// assert_eq!(topology.topics[0].subscriptions[0].rules[0].name, "ordering.order-placed");
    /// assert!(topology.problems().is_empty());
    /// ```
    #[must_use]
    pub fn new(broker: impl Into<String>, lanes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { broker: broker.into(), lanes: lanes.into_iter().map(Into::into).collect(), topics: Vec::new() }
    }

    /// A topic of that name, added with the usual settings if it isn't there.
    pub fn topic(&mut self, name: &str) -> &mut Topic {
        let at = match self.topics.binary_search_by(|topic| topic.name.as_str().cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                let settings = TopicSettings::default();
                self.topics.insert(at, Topic { name: name.to_owned(), settings, subscriptions: Vec::new() });
                at
            }
        };
        &mut self.topics[at]
    }

    /// A subscription on a topic, with the usual settings if it isn't there; what it takes is added to what it took.
    pub fn subscribe(&mut self, topic: &str, name: &str, takes: Takes, sessions: bool) -> &mut Subscription {
        let subscriptions = &mut self.topic(topic).subscriptions;
        let at = match subscriptions.binary_search_by(|known| known.name.as_str().cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                let settings = SubscriptionSettings::default();
                subscriptions.insert(at, Subscription { name: name.to_owned(), settings, rules: Vec::new() });
                at
            }
        };
        let subscription = &mut subscriptions[at];
        subscription.settings.sessions |= sessions;
        subscription.take(takes);
        subscription
    }

    /// Everything about the names that Service Bus would not take, a sentence each; a bus is not built with such.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let topics = self.topics.iter().map(|topic| topic.name.as_str());
        same_names(topics, |one, other| problems.push(format!("the topics `{one}` and `{other}` {SAME}")));
        for topic in &self.topics {
            if let Some(problem) = topic_problem(&topic.name) {
                problems.push(format!("the topic's name `{}` {problem}", topic.name.escape_debug()));
            }
            let names = topic.subscriptions.iter().map(|subscription| subscription.name.as_str());
            same_names(names, |one, other| {
                problems
                    .push(format!("the subscriptions `{one}` and `{other}` on topic {} {SAME}", topic.name));
            });
            for subscription in &topic.subscriptions {
                let name = subscription.name.escape_debug();
                if let Some(problem) = subscription_problem(&subscription.name) {
                    problems
                        .push(format!("the subscription's name `{name}` on topic {} {problem}", topic.name));
                }
                if subscription.rules.is_empty() {
                    problems.push(format!("subscription {name} on topic {} takes no event", topic.name));
                }
                let rules = subscription.rules.iter().map(|rule| rule.name.as_str());
                same_names(rules, |one, other| {
                    problems.push(format!("the rules `{one}` and `{other}` of subscription {name} {SAME}"));
                });
                for rule in &subscription.rules {
                    if let Some(problem) = names::rule_problem(&rule.name) {
                        let rule = rule.name.escape_debug();
                        problems
                            .push(format!("the name `{rule}` of a rule of subscription {name} {problem}"));
                    }
                }
            }
        }
        problems
    }
}

const SAME: &str = "are one to Service Bus, which tells no upper from lower case: rename one";

/// Tells of names that differ in upper and lower case alone, or not at all.
fn same_names<'a>(names: impl Iterator<Item = &'a str>, mut tell: impl FnMut(&str, &str)) {
    let mut seen = BTreeMap::new();
    for name in names {
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            tell(other, name);
        }
    }
}

impl Subscription {
    fn take(&mut self, takes: Takes) {
        if self.rules.iter().any(|rule| rule.filter == Filter::Everything) {
            return;
        }
        let events = match takes {
            Takes::Everything => {
                // Under the name that Service Bus itself gives to this rule.
                let name = DEFAULT_RULE.to_owned();
                self.rules = vec![Rule { name, filter: Filter::Everything }];
                return;
            }
            Takes::Events(events) => events,
        };
        let mut all: Vec<_> = self.rules.drain(..).map(|rule| rule.filter).collect();
        all.extend(events.into_iter().map(Filter::Subject));
        all.sort();
        all.dedup();
        for filter in all {
            if let Filter::Subject(event) = &filter {
                let plain = rule_name(event);
                let taken = self.rules.iter().any(|rule| rule.name.eq_ignore_ascii_case(&plain));
                let name = if taken { hashed_rule_name(event) } else { plain };
                self.rules.push(Rule { name, filter });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(names: &[&str]) -> Takes {
        Takes::Events(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_subscription_has_one_rule_for_each_name() {
        let mut topology = Topology::new("b", ["default"]);
        topology.subscribe("orders", "billing", events(&["b", "a"]), false);
        let subscription = topology.subscribe("orders", "billing", events(&["b", "c"]), true);
        let names: Vec<_> = subscription.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(subscription.settings.sessions, "one event with a session is enough");
        assert_eq!(topology.topics.len(), 1);
    }

    #[test]
    fn one_that_takes_everything_has_one_rule() {
        let mut topology = Topology::new("b", ["default"]);
        topology.subscribe("orders", "audit", events(&["a"]), false);
        topology.subscribe("orders", "audit", Takes::Everything, false);
        let audit = topology.subscribe("orders", "audit", events(&["b"]), false);
        assert_eq!(audit.rules, [Rule { name: "$Default".to_owned(), filter: Filter::Everything }]);
        assert!(topology.problems().is_empty());
    }

    #[test]
    fn events_that_differ_in_case_alone_have_rules_of_their_own() {
        let mut topology = Topology::new("b", ["default"]);
        let billing = topology.subscribe("orders", "billing", events(&["placed", "Placed", "PLACED"]), false);
        assert_eq!(billing.rules.len(), 3);
        assert_eq!(billing.rules[0].name, "PLACED");
        assert!(billing.rules[1].name.starts_with("Placed-") && billing.rules[2].name.starts_with("placed-"));
        assert_eq!(topology.problems(), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut topology = Topology::new("b", ["default"]);
        topology.subscribe("order events", "billing", events(&[]), false);
        topology.subscribe("Orders", &"b".repeat(51), events(&["a"]), false);
        topology.subscribe("orders", "Audit", events(&["a"]), false);
        topology.subscribe("orders", "audit", events(&["a"]), false).rules[0].name = "a/b".to_owned();
        let problems = topology.problems().join("\n");
        for word in ["order events", "no event", "51 characters", "`Orders` and `orders`", "`Audit`", "`a/b`"]
        {
            assert!(problems.contains(word), "{word}:\n{problems}");
        }
        assert_eq!(problems.lines().count(), 6, "{problems}");
    }

    #[test]
    fn it_is_kept_as_json() {
        let mut topology = Topology::new("b", ["default"]);
        topology.subscribe("orders", "billing", events(&["placed"]), true);
        let json = serde_json::to_value(&topology).unwrap();
        let topic = &json["topics"][0];
        assert_eq!(topic["settings"]["duplicate_detection"], "PT10M");
        assert!(topic["settings"]["default_ttl"].is_null());
        let subscription = &topic["subscriptions"][0];
        assert_eq!(subscription["settings"]["lock_duration"], "PT1M");
        assert_eq!(subscription["rules"][0]["filter"]["subject"], "placed");
        assert_eq!(serde_json::from_value::<Topology>(json).unwrap(), topology);
    }
}
