//! Topics: which subscriptions get a message, and how it looks there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::container::{Container, Place, Stored};
use super::history::History;
use super::sql::{self, Action, Subject};
use super::turn::{Arrival, Post, PostKind, Turn};
use super::{
    CorrelationFilter, EntityPath, Fault, Filter, Message, Mistake, RuleInfo, RuleSettings, Span, Stamps,
    Time, TopicSettings, Value,
};

/// A topic with its subscriptions' rules. Their messages are in queues of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) path: EntityPath,
    pub(super) settings: TopicSettings,
    pub(super) stamps: Stamps,
    /// Holds scheduled messages alone.
    scheduled: Container,
    next_sequence_number: i64,
    history: History,
    pub(super) subscriptions: BTreeMap<EntityPath, Rules>,
}

/// Rules by their names in lower case.
pub(super) type Rules = BTreeMap<String, Rule>;

/// A rule that is ready to be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rule {
    name: String,
    settings: RuleSettings,
    created: Time,
    /// Of a SQL filter.
    condition: Option<sql::Condition>,
    action: Option<Action>,
}

impl Rule {
    pub(super) fn new(name: &str, settings: RuleSettings, created: Time) -> Result<Self, Fault> {
        let refuse =
            |what: &str, error: &str| Fault::argument(format!("The {what} of rule '{name}': {error}"));
        let condition = match &settings.filter {
            Filter::Sql { expression, parameters } => Some(
                sql::Condition::parse(expression, parameters).map_err(|error| refuse("filter", &error))?,
            ),
            _ => None,
        };
        let action = settings
            .action
            .as_ref()
            .map(|action| Action::parse(&action.expression, &action.parameters))
            .transpose()
            .map_err(|error| refuse("action", &error))?;
        Ok(Self { name: name.to_owned(), settings, created, condition, action })
    }

    pub(super) fn info(&self) -> RuleInfo {
        RuleInfo { name: self.name.clone(), rule: self.settings.clone(), created: self.created }
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.settings.filter
    }

    pub(super) fn created(&self) -> Time {
        self.created
    }

    fn matches(&self, turn: &mut Turn, number: i64, message: &Message) -> Result<bool, sql::Exception> {
        match &self.settings.filter {
            Filter::True => Ok(true),
            Filter::False => Ok(false),
            Filter::Correlation(filter) => Ok(correlates(filter, message)),
            Filter::Sql { .. } => {
                let mut new_id = || turn.ids.next();
                let mut subject = Subject { message, sequence_number: number, new_id: &mut new_id };
                self.condition.as_ref().map_or(Ok(false), |condition| condition.holds(&mut subject))
            }
        }
    }
}

impl RuleSettings {
    /// What is wrong with its expressions.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let filter = match &self.filter {
            Filter::Sql { expression, parameters } => sql::Condition::parse(expression, parameters).err(),
            _ => None,
        };
        let action = self
            .action
            .as_ref()
            .and_then(|action| Action::parse(&action.expression, &action.parameters).err());
        let mistake = |(key, text): (_, Option<String>)| Some(Mistake { key, text: text? });
        [("SqlFilter", filter), ("Action", action)].into_iter().filter_map(mistake).collect()
    }
}

fn correlates(filter: &CorrelationFilter, message: &Message) -> bool {
    let properties = &message.properties;
    let pairs = [
        (&filter.correlation_id, &properties.correlation_id),
        (&filter.message_id, &properties.message_id),
        (&filter.to, &properties.to),
        (&filter.reply_to, &properties.reply_to),
        (&filter.label, &properties.subject),
        (&filter.session_id, &properties.session_id),
        (&filter.reply_to_session_id, &properties.reply_to_session_id),
        (&filter.content_type, &properties.content_type),
    ];
    pairs.into_iter().all(|(wanted, found)| wanted.is_none() || wanted == found)
        && filter.properties.iter().all(|(name, wanted)| {
            message.application.get(name).is_some_and(|found| sql::equal(wanted, found))
        })
}

impl Topic {
    pub(super) fn new(path: EntityPath, settings: TopicSettings, now: Time) -> Self {
        Self {
            path,
            settings,
            stamps: Stamps { created: now, updated: now, accessed: now },
            scheduled: Container::new(false),
            next_sequence_number: 1,
            history: History::default(),
            subscriptions: BTreeMap::new(),
        }
    }

    pub(super) fn touch(&mut self, turn: &mut Turn) {
        self.stamps.accessed = turn.now;
        turn.mark(&self.path);
    }

    pub(super) fn scheduled_count(&self) -> u64 {
        self.scheduled.count()
    }

    pub(super) fn scheduled_bytes(&self) -> u64 {
        self.scheduled.bytes()
    }

    pub(super) fn is_duplicate(&mut self, now: Time, message: &Message) -> bool {
        let settings = &self.settings;
        let window = settings.duplicate_detection_history_time_window;
        settings.requires_duplicate_detection
            && self.history.is_duplicate(now, window, settings.enable_partitioning, message)
    }

    fn next_number(&mut self) -> i64 {
        let number = self.next_sequence_number;
        self.next_sequence_number += 1;
        number
    }

    /// Takes a message in, gives it its number, and hands it to the subscriptions.
    pub(super) fn arrive(&mut self, turn: &mut Turn, arrival: Arrival) -> i64 {
        let number = self.next_number();
        turn.mark(&self.path);
        let time_to_live = arrival.time_to_live.min(self.settings.default_message_time_to_live);
        let enqueued_sequence_number = Some(arrival.enqueued_sequence_number.unwrap_or(number));
        let arrival = Arrival { sequence_number: number, enqueued_sequence_number, time_to_live, ..arrival };
        for (path, rules) in &self.subscriptions {
            distribute(turn, path, rules, &arrival);
        }
        number
    }

    /// Keeps a message until it is to arrive. The number holds until then.
    pub(super) fn schedule(&mut self, turn: &mut Turn, message: Arc<Message>, at: Time) -> i64 {
        let number = self.next_number();
        let stored = Stored {
            message,
            enqueued_sequence_number: None,
            enqueued: turn.now,
            expires: None,
            delivery_count: 0,
            hops: 0,
            dead_letter_source: None,
            place: Place::Scheduled(at),
            lock: None,
        };
        self.scheduled.insert(number, stored);
        turn.mark(&self.path);
        number
    }

    pub(super) fn scheduled(&self, number: i64) -> bool {
        self.scheduled.get(number).is_some()
    }

    pub(super) fn cancel(&mut self, turn: &mut Turn, number: i64) {
        self.scheduled.remove(number);
        self.touch(turn);
    }

    pub(super) fn peek(&self, from: i64, max: u32) -> Vec<super::Delivery> {
        let show = |(number, stored): (i64, &Stored)| self.scheduled.show(number, stored);
        self.scheduled.from(from).take(max as usize).map(show).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let idle = self.settings.auto_delete_on_idle;
        let idle = (idle != Span::FOREVER).then(|| self.stamps.accessed + idle);
        [self.scheduled.next_deadline(), idle].into_iter().flatten().min()
    }

    pub(super) fn is_idle(&self, now: Time) -> bool {
        let idle = self.settings.auto_delete_on_idle;
        idle != Span::FOREVER && self.stamps.accessed + idle <= now
    }

    /// Lets happen what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn) {
        self.history.forget(turn.now, self.settings.duplicate_detection_history_time_window);
        while let Some(number) = self.scheduled.arrived(turn.now) {
            if let Some(stored) = self.scheduled.remove(number) {
                self.arrive(turn, Arrival::fresh(stored.message));
            }
        }
        turn.mark(&self.path);
    }
}

/// One copy for all rules without an action, and one for each rule with an action.
fn distribute(turn: &mut Turn, path: &EntityPath, rules: &Rules, arrival: &Arrival) {
    let number = arrival.sequence_number;
    let mut plain = false;
    let mut copies = Vec::new();
    for rule in rules.values() {
        // Another rule without an action can't change what the subscription gets.
        if plain && rule.action.is_none() {
            continue;
        }
        let kind = "RuleFilterEvaluationException";
        match rule.matches(turn, number, &arrival.message) {
            Ok(false) => {}
            Ok(true) => match &rule.action {
                None => plain = true,
                Some(action) => {
                    let mut message = Message::clone(&arrival.message);
                    message.set_application("RuleName", Some(Value::String(rule.name.clone())));
                    match action.run(&mut message, number, &mut || turn.ids.next()) {
                        Ok(()) => copies.push(Arc::new(message)),
                        Err(exception) => {
                            return fail(turn, path, arrival, kind, &rule.name, &exception);
                        }
                    }
                }
            },
            Err(exception) => return fail(turn, path, arrival, kind, &rule.name, &exception),
        }
    }
    if plain {
        copies.insert(0, Arc::clone(&arrival.message));
    }
    for message in copies {
        let arrival = Arrival { message, ..arrival.clone() };
        turn.outbox.push_back(Post { to: path.clone(), arrival, kind: PostKind::Copy });
    }
}

fn fail(
    turn: &mut Turn,
    path: &EntityPath,
    arrival: &Arrival,
    reason: &'static str,
    rule: &str,
    exception: &sql::Exception,
) {
    let text = format!("Rule '{rule}' failed: {}.", exception.0);
    let kind = PostKind::Exception { reason, text };
    turn.outbox.push_back(Post { to: path.clone(), arrival: arrival.clone(), kind });
}
