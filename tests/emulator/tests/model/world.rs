//! A namespace whose clock a test moves.

use std::collections::BTreeMap;

use bytes::Bytes;
use servicebus_emulator::model::{
    Condition, Delivery, EntityInfo, EntityPath, Fault, Filter, Input, LockToken, Message, Model, Outcome,
    Output, Properties, QueueSettings, ReceiveMode, ReceiverId, RuleSettings, SessionGrant, SessionWish,
    Span, SqlAction, SubscriptionSettings, Time, TopicSettings, Value,
};

pub(crate) const ME: ReceiverId = ReceiverId(1);
pub(crate) const OTHER: ReceiverId = ReceiverId(2);
pub(crate) const LOCK: u64 = 60_000;

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) now: Time,
    pub(crate) woken: Vec<EntityPath>,
}

pub(crate) fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap()
}

pub(crate) fn message(id: &str) -> Message {
    Message {
        properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
        raw: Bytes::from(format!("<{id}>")),
        ..Message::default()
    }
}

pub(crate) fn in_session(id: &str, session: &str) -> Message {
    let mut message = message(id);
    message.properties.session_id = Some(session.to_owned());
    message
}

pub(crate) fn with(id: &str, pairs: &[(&str, Value)]) -> Message {
    let application = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Message { application, ..message(id) }
}

pub(crate) fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(crate) fn sql(expression: &str) -> RuleSettings {
    let filter = Filter::Sql { expression: expression.to_owned(), parameters: BTreeMap::new() };
    RuleSettings { filter, action: None }
}

pub(crate) fn acting(rule: RuleSettings, action: &str) -> RuleSettings {
    let action = SqlAction { expression: action.to_owned(), parameters: BTreeMap::new() };
    RuleSettings { action: Some(action), ..rule }
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.properties.message_id.as_deref().unwrap()).collect()
}

pub(crate) fn abandon() -> Outcome {
    Outcome::Abandon { modify: BTreeMap::new() }
}

pub(crate) fn defer() -> Outcome {
    Outcome::Defer { modify: BTreeMap::new() }
}

pub(crate) fn dead_letter(reason: &str, description: &str) -> Outcome {
    Outcome::DeadLetter {
        reason: Some(reason.to_owned()),
        description: Some(description.to_owned()),
        modify: BTreeMap::new(),
    }
}

pub(crate) fn condition<T: std::fmt::Debug>(result: Result<T, Fault>) -> Condition {
    result.unwrap_err().condition
}

/// The reason that a dead-lettered message carries.
pub(crate) fn reason(delivery: &Delivery) -> &str {
    delivery.message.application["DeadLetterReason"].text().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self { model: Model::new(7), now: Time(1_000_000), woken: Vec::new() }
    }

    /// With one queue `q`.
    pub(crate) fn queue(change: impl FnOnce(&mut QueueSettings)) -> Self {
        let mut world = Self::new();
        world.add_queue("q", change);
        world
    }

    pub(crate) fn add_queue(&mut self, name: &str, change: impl FnOnce(&mut QueueSettings)) {
        let mut settings = QueueSettings::default();
        change(&mut settings);
        self.apply(Input::CreateQueue { path: path(name), settings }).unwrap();
    }

    pub(crate) fn add_topic(&mut self, name: &str, change: impl FnOnce(&mut TopicSettings)) {
        let mut settings = TopicSettings::default();
        change(&mut settings);
        self.apply(Input::CreateTopic { path: path(name), settings }).unwrap();
    }

    pub(crate) fn subscribe(
        &mut self,
        name: &str,
        rules: &[RuleSettings],
        change: impl FnOnce(&mut SubscriptionSettings),
    ) {
        let subscription = path(name);
        let mut settings = SubscriptionSettings::default();
        change(&mut settings);
        self.apply(Input::CreateSubscription { path: subscription.clone(), settings, rule: None }).unwrap();
        if rules.is_empty() {
            return;
        }
        let name = "$default".to_owned();
        self.apply(Input::DeleteRule { subscription: subscription.clone(), name }).unwrap();
        for (index, rule) in rules.iter().enumerate() {
            let (subscription, name) = (subscription.clone(), format!("rule{index}"));
            self.apply(Input::CreateRule { subscription, name, rule: rule.clone() }).unwrap();
        }
    }

    pub(crate) fn apply(&mut self, input: Input) -> Result<Output, Fault> {
        let before = self.model.clone();
        let due = before.next_deadline().is_some_and(|deadline| deadline <= self.now);
        let applied = self.model.apply(self.now, input);
        // What the host relies on when it leaves an input out of the journal.
        assert!(applied.changed || self.model == before, "`changed` must tell of every change");
        assert!(applied.output.is_ok() || due || self.model == before, "a fault must not come with a change");
        self.woken = applied.woken;
        applied.output
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + Span(milliseconds);
        self.apply(Input::Tick).unwrap();
    }

    pub(crate) fn send(&mut self, entity: &str, messages: &[Message]) -> Result<Vec<i64>, Fault> {
        self.apply(Input::Send { entity: path(entity), messages: messages.to_vec() })?.into_sequence_numbers()
    }

    pub(crate) fn schedule(&mut self, entity: &str, mut message: Message, at: Time) -> i64 {
        message.scheduled_enqueue_time = Some(at);
        let input = Input::Schedule { entity: path(entity), messages: vec![message] };
        self.apply(input).unwrap().into_sequence_numbers().unwrap()[0]
    }

    pub(crate) fn cancel(&mut self, entity: &str, sequence_numbers: &[i64]) -> Result<Output, Fault> {
        self.apply(Input::CancelScheduled {
            entity: path(entity),
            sequence_numbers: sequence_numbers.to_vec(),
        })
    }

    pub(crate) fn try_receive(
        &mut self,
        entity: &str,
        receiver: Option<ReceiverId>,
        session: Option<&str>,
        mode: ReceiveMode,
        max: u32,
    ) -> Result<Vec<Delivery>, Fault> {
        let session = session.map(str::to_owned);
        self.apply(Input::Receive { entity: path(entity), receiver, session, mode, max })?.into_deliveries()
    }

    /// Under peek-lock, without a session and a name.
    pub(crate) fn receive(&mut self, entity: &str, max: u32) -> Vec<Delivery> {
        self.try_receive(entity, None, None, ReceiveMode::PeekLock, max).unwrap()
    }

    /// Receives and deletes all that is there.
    pub(crate) fn drain(&mut self, entity: &str) -> Vec<Delivery> {
        self.try_receive(entity, None, None, ReceiveMode::ReceiveAndDelete, 1000).unwrap()
    }

    pub(crate) fn deferred(
        &mut self,
        entity: &str,
        sequence_numbers: &[i64],
    ) -> Result<Vec<Delivery>, Fault> {
        let input = Input::ReceiveDeferred {
            entity: path(entity),
            receiver: None,
            session: None,
            mode: ReceiveMode::PeekLock,
            sequence_numbers: sequence_numbers.to_vec(),
        };
        self.apply(input)?.into_deliveries()
    }

    pub(crate) fn settle(
        &mut self,
        entity: &str,
        delivery: &Delivery,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        self.settle_as(entity, None, None, token(delivery), outcome)
    }

    pub(crate) fn settle_as(
        &mut self,
        entity: &str,
        receiver: Option<ReceiverId>,
        session: Option<&str>,
        token: LockToken,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let session = session.map(str::to_owned);
        let input = Input::Settle { entity: path(entity), receiver, session, tokens: vec![token], outcome };
        self.apply(input)?.into_settled()?.remove(0)
    }

    pub(crate) fn open(&mut self, entity: &str, receiver: ReceiverId) -> Result<Output, Fault> {
        self.apply(Input::OpenReceiver { entity: path(entity), receiver })
    }

    pub(crate) fn close(&mut self, receiver: ReceiverId) {
        self.apply(Input::CloseReceiver { receiver }).unwrap();
    }

    pub(crate) fn accept(&mut self, receiver: ReceiverId, wish: Option<&str>) -> Result<SessionGrant, Fault> {
        let wish = wish.map_or(SessionWish::Next, |id| SessionWish::Named(id.to_owned()));
        match self.apply(Input::AcceptSession { entity: path("q"), receiver, wish })? {
            Output::Session(grant) => Ok(grant),
            other => panic!("{other:?}"),
        }
    }

    /// From `q`, one message.
    pub(crate) fn next_in(&mut self, receiver: ReceiverId, session: &str) -> Result<Option<Delivery>, Fault> {
        let found = self.try_receive("q", Some(receiver), Some(session), ReceiveMode::PeekLock, 1)?;
        Ok(found.into_iter().next())
    }

    pub(crate) fn peek(&self, entity: &str) -> Vec<Delivery> {
        self.model.peek(&path(entity), None, 0, 250).unwrap()
    }

    pub(crate) fn info(&self, entity: &str) -> Option<EntityInfo> {
        self.model.entity(&path(entity))
    }
}

pub(crate) fn token(delivery: &Delivery) -> LockToken {
    delivery.lock.unwrap().0
}
