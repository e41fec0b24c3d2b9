//! Going through a topology, entity by entity: what is there, what is to be created, what is to be told.

use std::time::Duration;

use super::{Mode, TopologyError};
use crate::broker::namespace::credential::Credential;
use crate::broker::namespace::descriptions::{self, FoundFilter, FoundRule, Setting};
use crate::broker::namespace::endpoint::Endpoint;
use crate::broker::namespace::management::{Management, Path, Put};
use crate::broker::namespace::xml::Element;
use crate::retry::Backoff;
use crate::topology::{
    DEFAULT_RULE, Drift, Entity, Filter, Foreign, Rule, Subscription, Topic, Topology, TopologyReport,
    hashed_rule_name, rule_name,
};

/// How often something may be gone that another has just created, before it is an error.
const LOOKS: u32 = 5;

pub(super) struct Look {
    api: Management,
    mode: Mode,
    report: TopologyReport,
}

impl Look {
    pub(super) fn new(
        endpoint: &Endpoint,
        credential: Credential,
        mode: Mode,
    ) -> Result<Self, TopologyError> {
        Ok(Self { api: Management::new(endpoint, credential)?, mode, report: TopologyReport::default() })
    }

    pub(super) async fn at(mut self, topology: &Topology) -> Result<TopologyReport, TopologyError> {
        for topic in &topology.topics {
            self.topic(topic).await?;
        }
        Ok(self.report)
    }

    async fn topic(&mut self, topic: &Topic) -> Result<(), TopologyError> {
        let entity = Entity::Topic(topic.name.clone());
        let document = || descriptions::new_topic(&topic.settings);
        let Some(found) = self.get_or_create(&entity, &Path::topic(&topic.name), document).await? else {
            self.report.missing.extend(topic.subscriptions.iter().map(|it| subscription_of(topic, it)));
            return Ok(());
        };
        if found.name != "TopicDescription" {
            self.report.drift.push(another_kind(entity, &found));
            return Ok(());
        }
        self.compare(&entity, &found, &descriptions::topic(&topic.settings));
        for subscription in &topic.subscriptions {
            self.subscription(topic, subscription).await?;
        }
        self.others(topic).await
    }

    async fn subscription(
        &mut self,
        topic: &Topic,
        subscription: &Subscription,
    ) -> Result<(), TopologyError> {
        let entity = subscription_of(topic, subscription);
        let path = Path::subscription(&topic.name, &subscription.name);
        let document = || descriptions::new_subscription(subscription);
        if let Some(found) = self.get_or_create(&entity, &path, document).await? {
            self.compare(&entity, &found, &descriptions::subscription(&subscription.settings));
            self.rules(topic, subscription).await?;
        }
        Ok(())
    }

    /// What is there, which may have been created right now; none where nothing may be created.
    async fn get_or_create(
        &mut self,
        entity: &Entity,
        path: &Path,
        document: impl Fn() -> String,
    ) -> Result<Option<Element>, TopologyError> {
        let mut backoff = new_backoff();
        for _ in 0..LOOKS {
            if let Some(found) = self.api.get(path).await? {
                return Ok(Some(found));
            }
            if self.mode == Mode::Check {
                self.report.missing.push(entity.clone());
                return Ok(None);
            }
            // If somebody else was quicker, what is there now is theirs, and looked at as such.
            match self.api.create(path, document()).await? {
                Put::Created => self.report.created.push(entity.clone()),
                Put::Exists => tokio::time::sleep(backoff.next()).await,
            }
        }
        Err(conflict(path, entity))
    }

    async fn rules(&mut self, topic: &Topic, subscription: &Subscription) -> Result<(), TopologyError> {
        let entity = |name: &str| rule_of(topic, subscription, name);
        let mut found = self.found_rules(topic, subscription).await?;
        let mut complete = true;
        for rule in &subscription.rules {
            complete &= self.rule(topic, subscription, rule, &mut found).await?;
        }
        for known in found {
            let Some((meaning, removable)) = surplus(&known, subscription) else { continue };
            let path = Path::rule(&topic.name, &subscription.name, &known.name);
            // Only when all that is wanted comes without it.
            if self.mode == Mode::RemoveSurplus && removable && complete && self.api.delete(&path).await? {
                self.report.removed.push(entity(&known.name));
            } else {
                self.report.foreign.push(Foreign { entity: entity(&known.name), meaning, removable });
            }
        }
        Ok(())
    }

    /// Whether what a rule lets through comes in, when this is done.
    async fn rule(
        &mut self,
        topic: &Topic,
        subscription: &Subscription,
        rule: &Rule,
        found: &mut Vec<FoundRule>,
    ) -> Result<bool, TopologyError> {
        let entity = |name: &str| rule_of(topic, subscription, name);
        let mut backoff = new_backoff();
        for _ in 0..LOOKS {
            if found.iter().any(|known| known.does(rule)) {
                return Ok(true);
            }
            let name = match free_name(rule, found) {
                Ok(name) => name,
                Err(known) => {
                    self.report.drift.push(another_rule(entity(&known.name), known, &rule.filter));
                    return Ok(false);
                }
            };
            if self.mode == Mode::Check {
                self.report.missing.push(entity(&name));
                return Ok(false);
            }
            let path = Path::rule(&topic.name, &subscription.name, &name);
            let document = descriptions::new_rule(&Rule { name: name.clone(), filter: rule.filter.clone() });
            if self.api.create(&path, document).await? == Put::Created {
                self.report.created.push(entity(&name));
                return Ok(true);
            }
            // Somebody else was quicker: is it the same?
            *found = self.found_rules(topic, subscription).await?;
            if !found.iter().any(|known| known.name.eq_ignore_ascii_case(&name)) {
                tokio::time::sleep(backoff.next()).await;
            }
        }
        let path = Path::rule(&topic.name, &subscription.name, &rule.name);
        Err(conflict(&path, &entity(&rule.name)))
    }

    async fn found_rules(
        &self,
        topic: &Topic,
        subscription: &Subscription,
    ) -> Result<Vec<FoundRule>, TopologyError> {
        let entries = self.api.list(&Path::rules(&topic.name, &subscription.name)).await?;
        Ok(entries.iter().filter_map(FoundRule::read).collect())
    }

    /// Subscriptions that other services have on the same topic, or that nobody receives from any more.
    async fn others(&mut self, topic: &Topic) -> Result<(), TopologyError> {
        for entry in self.api.list(&Path::subscriptions(&topic.name)).await? {
            let Some(name) = entry.text_of("title") else { continue };
            if topic.subscriptions.iter().any(|own| own.name.eq_ignore_ascii_case(name)) {
                continue;
            }
            self.report.foreign.push(Foreign {
                entity: Entity::Subscription { topic: topic.name.clone(), name: name.to_owned() },
                meaning: "another service's; if there is none, events pile up in it until the topic is full"
                    .to_owned(),
                removable: false,
            });
        }
        Ok(())
    }

    fn compare(&mut self, entity: &Entity, found: &Element, settings: &[Setting]) {
        for setting in settings {
            if let Some(otherwise) = setting.wanted.otherwise(found.text_of(setting.name)) {
                self.report.drift.push(drift(entity.clone(), setting, otherwise));
            }
        }
    }
}

fn new_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(2))
}

fn conflict(path: &Path, entity: &Entity) -> TopologyError {
    TopologyError::Refused {
        asked: format!("PUT {path}"),
        status: 409,
        reason: format!(
            "{entity} is said to exist, and then it isn't there: somebody changes it at this time"
        ),
    }
}

fn subscription_of(topic: &Topic, subscription: &Subscription) -> Entity {
    Entity::Subscription { topic: topic.name.clone(), name: subscription.name.clone() }
}

fn rule_of(topic: &Topic, subscription: &Subscription, name: &str) -> Entity {
    Entity::Rule { topic: topic.name.clone(), subscription: subscription.name.clone(), name: name.to_owned() }
}

/// The first of a rule's names that no other has; the other, where that is none of this library's.
fn free_name<'f>(rule: &Rule, found: &'f [FoundRule]) -> Result<String, &'f FoundRule> {
    let names = match &rule.filter {
        Filter::Subject(event) => vec![rule.name.clone(), hashed_rule_name(event)],
        _ => vec![rule.name.clone()],
    };
    let mut taken = None;
    for name in names {
        match found.iter().find(|known| known.name.eq_ignore_ascii_case(&name)) {
            None => return Ok(name),
            Some(known) if is_ours(known) => taken = Some(known),
            Some(known) => return Err(known),
        }
    }
    taken.map_or_else(|| Ok(rule.name.clone()), Err)
}

/// Whether it is a rule as this library makes them, for the event that its filter names.
fn is_ours(found: &FoundRule) -> bool {
    let FoundFilter::Known(Filter::Subject(event)) = &found.filter else { return false };
    let names = [rule_name(event), hashed_rule_name(event)];
    !found.acts && names.iter().any(|name| name.eq_ignore_ascii_case(&found.name))
}

fn drift(entity: Entity, setting: &Setting, found: String) -> Drift {
    let (remedy, harmful) = remedy(setting, &found);
    let mut field = setting.name.to_owned();
    // As Bicep and `az` have it.
    field[..1].make_ascii_lowercase();
    Drift { entity, field, found, wanted: setting.wanted.to_string(), remedy: remedy.to_owned(), harmful }
}

/// What to do about a setting, and whether it must be done.
fn remedy(setting: &Setting, found: &str) -> (&'static str, bool) {
    match setting.name {
        "RequiresSession" if found == "false" => (
            "it can't be changed: handle its events for a subscription of another name, which is created with sessions, \
             and delete this one when it is empty; or declare its handlers `unordered`",
            true,
        ),
        "RequiresSession" => (
            "it can't be changed, and does no harm to events of this library; what others send without a session ends \
             in the dead-letter queue. To be rid of it, handle its events for a subscription of another name",
            false,
        ),
        "RequiresDuplicateDetection" => (
            "it can't be changed; what comes twice is dropped by the inbox. To have it changed, publish to a topic of \
             another name",
            false,
        ),
        "AutoDeleteOnIdle" => (
            "with no service connected for so long, it and all events in it would be gone: set it to never",
            true,
        ),
        "ForwardTo" => ("what it takes goes there and never comes here: take it away", true),
        "ForwardDeadLetteredMessagesTo" => {
            ("its dead letters go there and are no dead rows here: take it away, or handle them there", false)
        }
        "DeadLetteringOnMessageExpiration" | "DeadLetteringOnFilterEvaluationExceptions"
            if found == "false" =>
        {
            ("such events vanish without a trace: turn it on", false)
        }
        "Status" => ("somebody has suspended it: set it to Active when that is over", false),
        _ => {
            ("set it in the portal, with `az servicebus`, or by deploying the Bicep of this topology", false)
        }
    }
}

fn another_kind(entity: Entity, found: &Element) -> Drift {
    Drift {
        entity,
        field: "kind".to_owned(),
        found: found.name.trim_end_matches("Description").to_ascii_lowercase(),
        wanted: "topic".to_owned(),
        remedy: "nothing can subscribe to it: delete it, or give the topic another name".to_owned(),
        harmful: true,
    }
}

fn another_rule(entity: Entity, found: &FoundRule, wanted: &Filter) -> Drift {
    let action = if found.acts { ", with an action" } else { "" };
    Drift {
        entity,
        field: "filter".to_owned(),
        found: format!("{}{action}", found.filter),
        wanted: descriptions::in_words(wanted),
        remedy: "somebody has changed it: delete the rule, and let it be created anew".to_owned(),
        harmful: true,
    }
}

/// What a rule means that is not of the topology, and whether it is one of ours that nobody needs.
fn surplus(found: &FoundRule, subscription: &Subscription) -> Option<(String, bool)> {
    let wanted = |rule: &Rule| found.does(rule);
    // One of a wanted rule's name is told of as drift.
    let drifted = |rule: &Rule| rule.name.eq_ignore_ascii_case(&found.name) && !is_ours(found);
    if subscription.rules.iter().any(|rule| wanted(rule) || drifted(rule)) {
        return None;
    }
    let what = match &found.filter {
        FoundFilter::Other(words) => format!("what {words} matches"),
        known => known.to_string(),
    };
    let lets = format!("lets {what} through");
    match &found.filter {
        // As `to_bicep` leaves `$Default`.
        FoundFilter::Nothing => None,
        FoundFilter::Known(Filter::Everything) if !found.acts && found.name == DEFAULT_RULE => Some((
            format!("{lets}: what nobody here handles ends dead; `remove_surplus_rules` removes it"),
            true,
        )),
        FoundFilter::Known(Filter::Subject(_)) if is_ours(found) => Some((
            format!(
                "{lets}, which no handler here takes: of another version; `remove_surplus_rules` removes it"
            ),
            true,
        )),
        _ if found.acts => {
            Some((format!("{lets}, with an action: in copies of their own, each handled once"), false))
        }
        _ => Some((lets, false)),
    }
}
