//! What administrators ask for: entities and rules come, change and go.

use super::queue::{Kind, Queue};
use super::settings::refuse;
use super::topic::{Rule, Rules, Topic};
use super::turn::Turn;
use super::{Condition, EntityPath, Fault, Filter, Input, Model, RuleSettings, SubQueue, Time};

/// The rule that a subscription begins with.
const DEFAULT_RULE: &str = "$Default";
/// <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas>
const MOST_ENTITIES: usize = 10_000;
const MOST_SUBSCRIPTIONS: usize = 2_000;
const MOST_SQL_RULES: usize = 2_000;
const MOST_CORRELATION_RULES: usize = 100_000;
const LONGEST_RULE: usize = 50;

impl Model {
    pub(super) fn administer(&mut self, turn: &mut Turn, input: Input) -> Result<(), Fault> {
        let now = turn.now;
        match input {
            Input::CreateQueue { path, settings } => {
                refuse(&settings.mistakes())?;
                self.check_new(&path)?;
                self.check_forward(&path, settings.forward_to.as_ref())?;
                self.check_forward(&path, settings.forward_dead_lettered_messages_to.as_ref())?;
                self.queues.insert(path.clone(), Queue::new(path.clone(), Kind::Queue(settings), now));
                turn.mark(&path);
            }
            Input::UpdateQueue { path, settings } => {
                refuse(&settings.mistakes())?;
                self.check_forward(&path, settings.forward_to.as_ref())?;
                self.check_forward(&path, settings.forward_dead_lettered_messages_to.as_ref())?;
                let queue = self.queues.get_mut(&path).ok_or_else(|| Fault::not_found(&path))?;
                let Kind::Queue(old) = &queue.kind else {
                    return Err(Fault::not_found(&path));
                };
                unchanged("RequiresSession", old.requires_session == settings.requires_session)?;
                let same = old.requires_duplicate_detection == settings.requires_duplicate_detection;
                unchanged("RequiresDuplicateDetection", same)?;
                unchanged("EnablePartitioning", old.enable_partitioning == settings.enable_partitioning)?;
                queue.update(turn, Kind::Queue(settings));
            }
            Input::CreateTopic { path, settings } => {
                refuse(&settings.mistakes())?;
                self.check_new(&path)?;
                self.topics.insert(path.clone(), Topic::new(path.clone(), settings, now));
                turn.mark(&path);
            }
            Input::UpdateTopic { path, settings } => {
                refuse(&settings.mistakes())?;
                let topic = self.topics.get_mut(&path).ok_or_else(|| Fault::not_found(&path))?;
                let same =
                    topic.settings.requires_duplicate_detection == settings.requires_duplicate_detection;
                unchanged("RequiresDuplicateDetection", same)?;
                unchanged(
                    "EnablePartitioning",
                    topic.settings.enable_partitioning == settings.enable_partitioning,
                )?;
                topic.settings = settings;
                topic.stamps.updated = now;
                topic.touch(turn);
            }
            Input::CreateSubscription { path, settings, rule } => {
                refuse(&settings.mistakes())?;
                let (name, rule) = rule.unwrap_or_else(|| (DEFAULT_RULE.to_owned(), RuleSettings::default()));
                let rule = new_rule(&name, rule, now)?;
                self.check_forward(&path, settings.forward_to.as_ref())?;
                self.check_forward(&path, settings.forward_dead_lettered_messages_to.as_ref())?;
                let topic = self.topic_of(&path)?;
                if topic.subscriptions.contains_key(&path) {
                    return Err(exists(&path));
                }
                if topic.subscriptions.len() >= MOST_SUBSCRIPTIONS {
                    return Err(full(format!("A topic has at most {MOST_SUBSCRIPTIONS} subscriptions.")));
                }
                topic.subscriptions.insert(path.clone(), Rules::from([(name.to_lowercase(), rule)]));
                topic.touch(turn);
                self.queues.insert(path.clone(), Queue::new(path.clone(), Kind::Subscription(settings), now));
                turn.mark(&path);
            }
            Input::UpdateSubscription { path, settings } => {
                refuse(&settings.mistakes())?;
                self.check_forward(&path, settings.forward_to.as_ref())?;
                self.check_forward(&path, settings.forward_dead_lettered_messages_to.as_ref())?;
                let queue = self.queues.get_mut(&path).ok_or_else(|| Fault::not_found(&path))?;
                let Kind::Subscription(old) = &queue.kind else {
                    return Err(Fault::not_found(&path));
                };
                unchanged("RequiresSession", old.requires_session == settings.requires_session)?;
                queue.update(turn, Kind::Subscription(settings));
            }
            Input::DeleteEntity { path } => {
                if path.sub() != SubQueue::Main
                    || !(self.queues.contains_key(&path) || self.topics.contains_key(&path))
                {
                    return Err(Fault::not_found(&path));
                }
                self.delete(turn, &path);
            }
            Input::CreateRule { subscription, name, rule } => {
                let new = new_rule(&name, rule, now)?;
                let topic = self.topic_of(&subscription)?;
                check_rule_count(topic, &new)?;
                let rules = rules_of(topic, &subscription)?;
                if rules.contains_key(&name.to_lowercase()) {
                    return Err(exists(format!("{subscription}/Rules/{name}")));
                }
                rules.insert(name.to_lowercase(), new);
                topic.touch(turn);
            }
            Input::UpdateRule { subscription, name, rule } => {
                let topic = self.topic_of(&subscription)?;
                let rules = rules_of(topic, &subscription)?;
                let Some(old) = rules.get_mut(&name.to_lowercase()) else {
                    return Err(Fault::not_found(format!("{subscription}/Rules/{name}")));
                };
                *old = new_rule(&name, rule, old.created())?;
                topic.touch(turn);
            }
            Input::DeleteRule { subscription, name } => {
                let topic = self.topic_of(&subscription)?;
                if rules_of(topic, &subscription)?.remove(&name.to_lowercase()).is_none() {
                    return Err(Fault::not_found(format!("{subscription}/Rules/{name}")));
                }
                topic.touch(turn);
            }
            _ => {
                return Err(Fault::new(Condition::InternalError, "an input that changes no entity"));
            }
        }
        Ok(())
    }

    fn check_new(&self, path: &EntityPath) -> Result<(), Fault> {
        if path.sub() != SubQueue::Main || path.is_subscription() {
            return Err(Fault::argument(format!("'{path}' cannot be the name of a queue or a topic.")));
        }
        if self.queues.contains_key(path) || self.topics.contains_key(path) {
            return Err(exists(path));
        }
        let queues = self.queues.keys().filter(|path| !path.is_subscription()).count();
        if queues + self.topics.len() >= MOST_ENTITIES {
            return Err(full(format!("A namespace has at most {MOST_ENTITIES} queues and topics.")));
        }
        Ok(())
    }

    fn check_forward(&self, from: &EntityPath, to: Option<&EntityPath>) -> Result<(), Fault> {
        let Some(to) = to else { return Ok(()) };
        if to == from {
            return Err(Fault::argument(format!("'{from}' cannot forward to itself.")));
        }
        let queue = self.queues.contains_key(to) && !to.is_subscription();
        if !queue && !self.topics.contains_key(to) {
            return Err(Fault::argument(format!(
                "'{from}' cannot forward to '{to}': there is no such queue or topic."
            )));
        }
        Ok(())
    }

    fn topic_of(&mut self, subscription: &EntityPath) -> Result<&mut Topic, Fault> {
        let topic = subscription.topic().filter(|_| subscription.sub() == SubQueue::Main);
        let topic =
            topic.ok_or_else(|| Fault::argument(format!("'{subscription}' is not a subscription.")))?;
        self.topics.get_mut(&topic).ok_or_else(|| Fault::not_found(&topic))
    }
}

fn rules_of<'t>(topic: &'t mut Topic, subscription: &EntityPath) -> Result<&'t mut Rules, Fault> {
    topic.subscriptions.get_mut(subscription).ok_or_else(|| Fault::not_found(subscription))
}

fn new_rule(name: &str, settings: RuleSettings, now: Time) -> Result<Rule, Fault> {
    if name.is_empty()
        || name.chars().count() > LONGEST_RULE
        || name.contains(['/', '\\', '?', '#', '@', '*'])
    {
        return Err(Fault::argument(format!(
            "`{name}` is not the name of a rule: it has 1 to {LONGEST_RULE} characters and none of / \\ ? # @ *."
        )));
    }
    Rule::new(name, settings, now)
}

fn check_rule_count(topic: &Topic, new: &Rule) -> Result<(), Fault> {
    let correlates = |rule: &Rule| matches!(rule.filter(), Filter::Correlation(_));
    let kind = correlates(new);
    let most = if kind { MOST_CORRELATION_RULES } else { MOST_SQL_RULES };
    let count =
        topic.subscriptions.values().flat_map(Rules::values).filter(|rule| correlates(rule) == kind).count();
    if count < most { Ok(()) } else { Err(full(format!("A topic has at most {most} rules of that kind."))) }
}

fn unchanged(name: &str, same: bool) -> Result<(), Fault> {
    if same {
        Ok(())
    } else {
        Err(Fault::argument(format!("{name} cannot be changed after the entity was created.")))
    }
}

fn exists(what: impl std::fmt::Display) -> Fault {
    Fault::new(Condition::EntityAlreadyExists, format!("The messaging entity '{what}' already exists."))
}

fn full(text: String) -> Fault {
    Fault::new(Condition::ResourceLimitExceeded, text)
}
