//! Messages on their way in, from clients and from entity to entity.

use std::sync::Arc;

use super::queue::{Kind, MOST_HOPS, Reason};
use super::turn::{Arrival, Post, PostKind, Turn};
use super::{
    Condition, EntityPath, Fault, Message, Model, Output, SenderLimits, Status, SubQueue, SystemProperty,
    Time,
};

/// Characters of an id.
const LONGEST_ID: usize = 128;

/// What a sender must keep to at an entity.
struct Terms {
    limits: SenderLimits,
    status: Status,
    requires_session: bool,
    megabytes: u32,
    bytes: u64,
}

/// Whether an entity lets a message in and has room for it.
pub(super) fn check_room(
    path: &EntityPath,
    status: Status,
    megabytes: u32,
    bytes: u64,
    more: u64,
) -> Result<(), Fault> {
    if matches!(status, Status::Disabled | Status::SendDisabled) {
        let text = format!("Messaging entity '{path}' is currently disabled.");
        return Err(Fault::new(Condition::EntityDisabled, text));
    }
    check_quota(path, megabytes, bytes, more)
}

pub(super) fn check_quota(path: &EntityPath, megabytes: u32, bytes: u64, more: u64) -> Result<(), Fault> {
    if bytes.saturating_add(more) > u64::from(megabytes) * 1024 * 1024 {
        let text = format!("The maximum entity size of '{path}' has been reached or exceeded.");
        return Err(Fault::new(Condition::ResourceLimitExceeded, text));
    }
    Ok(())
}

impl Model {
    fn terms(&self, entity: &EntityPath) -> Result<Terms, Fault> {
        let terms = if let Some(topic) = self.topics.get(&entity.entity()) {
            Terms {
                limits: limits(topic.settings.max_message_size_in_kilobytes),
                status: topic.settings.status,
                requires_session: false,
                megabytes: topic.settings.max_size_in_megabytes,
                bytes: self.topic_bytes(topic),
            }
        } else {
            let queue = self.queues.get(&entity.entity()).ok_or_else(|| Fault::not_found(entity))?;
            let Kind::Queue(settings) = &queue.kind else {
                let text = format!("'{entity}' is a subscription: messages are sent to its topic.");
                return Err(Fault::not_allowed(text));
            };
            Terms {
                limits: limits(settings.max_message_size_in_kilobytes),
                status: settings.status,
                requires_session: settings.requires_session,
                megabytes: settings.max_size_in_megabytes,
                bytes: queue.bytes(),
            }
        };
        if entity.sub() != SubQueue::Main {
            return Err(Fault::not_allowed(format!("Messages cannot be sent to '{entity}'.")));
        }
        Ok(terms)
    }

    /// Whether one can send there, and how much: for a link that is about to be attached.
    pub fn check_sender(&self, entity: &EntityPath) -> Result<SenderLimits, Fault> {
        let terms = self.terms(entity)?;
        check_room(entity, terms.status, terms.megabytes, 0, 0)?;
        Ok(terms.limits)
    }

    pub(super) fn send(
        &mut self,
        turn: &mut Turn,
        entity: &EntityPath,
        messages: Vec<Message>,
        schedule: bool,
    ) -> Result<Output, Fault> {
        let terms = self.terms(entity)?;
        self.check_busy(turn.now, entity)?;
        let total = messages.iter().map(|message| message.raw.len() as u64).sum();
        check_room(entity, terms.status, terms.megabytes, terms.bytes, total)?;
        let most = terms.limits.max_message_size;
        if total > most {
            let text =
                format!("The received message (size {total}) exceeds the limit ({most}) of '{entity}'.");
            return Err(Fault::new(Condition::MessageSizeExceeded, text));
        }
        for message in &messages {
            check_message(entity, &terms, message)?;
            if schedule && message.scheduled_enqueue_time.is_none() {
                return Err(Fault::argument("A message to schedule has no scheduled enqueue time."));
            }
        }
        let mut sequence_numbers = Vec::with_capacity(messages.len());
        for message in messages {
            sequence_numbers.push(self.admit(turn, entity, message));
        }
        Ok(Output::Sent { sequence_numbers })
    }

    /// Takes one message of a client in; 0 where it is a duplicate.
    fn admit(&mut self, turn: &mut Turn, entity: &EntityPath, mut message: Message) -> i64 {
        if message.properties.message_id.is_none() {
            let id = turn.ids.next().simple().to_string();
            message.set_property(SystemProperty::MessageId, Some(id));
        }
        let at = message.scheduled_enqueue_time.filter(|at| *at > turn.now);
        if let Some(topic) = self.topics.get_mut(entity) {
            topic.touch(turn);
            if topic.is_duplicate(turn.now, &message) {
                return 0;
            }
            let message = Arc::new(message);
            match at {
                Some(at) => topic.schedule(turn, message, at),
                None => topic.arrive(turn, Arrival::fresh(message)),
            }
        } else if let Some(queue) = self.queues.get_mut(entity) {
            queue.touch(turn);
            if queue.is_duplicate(turn.now, &message) {
                return 0;
            }
            let arrival = Arrival::fresh(Arc::new(message));
            match at {
                Some(at) => queue.schedule(turn, arrival, at),
                None => queue.arrive(turn, arrival),
            }
        } else {
            0
        }
    }

    pub(super) fn cancel(
        &mut self,
        turn: &mut Turn,
        entity: &EntityPath,
        numbers: &[i64],
    ) -> Result<Output, Fault> {
        self.terms(entity)?;
        let missing = |number: &&i64| match (self.topics.get(entity), self.queues.get(entity)) {
            (Some(topic), _) => !topic.scheduled(**number),
            (_, Some(queue)) => !queue.scheduled(**number),
            _ => true,
        };
        if let Some(number) = numbers.iter().find(missing) {
            let text = format!("There is no scheduled message with the sequence number {number}.");
            return Err(Fault::new(Condition::MessageNotFound, text));
        }
        for number in numbers {
            if let Some(topic) = self.topics.get_mut(entity) {
                topic.cancel(turn, *number);
            } else if let Some(queue) = self.queues.get_mut(entity) {
                queue.cancel(turn, *number);
            }
        }
        Ok(Output::Done)
    }

    /// Empties the outbox: what entities hand on to each other.
    pub(super) fn deliver(&mut self, turn: &mut Turn) {
        while let Some(Post { to, arrival, kind }) = turn.outbox.pop_front() {
            match kind {
                PostKind::Copy => {
                    if let Some(queue) = self.queues.get_mut(&to) {
                        queue.arrive(turn, arrival);
                    }
                }
                PostKind::Exception { reason, text } => {
                    if let Some(queue) = self.queues.get_mut(&to) {
                        queue.filter_failed(turn, arrival, &Reason::new(reason, text));
                    }
                }
                PostKind::Forward { from } => {
                    let Err(reason) = self.forward(turn, &to, &arrival) else {
                        continue;
                    };
                    // An entity that is gone took its dead-letter queue with it.
                    if let Some(queue) = self.queues.get_mut(&from) {
                        queue.bounce(turn, arrival, &reason);
                    }
                }
            }
        }
    }

    fn forward(&mut self, turn: &mut Turn, to: &EntityPath, arrival: &Arrival) -> Result<(), Reason> {
        if arrival.hops > MOST_HOPS {
            let text = format!("The message was forwarded more than {MOST_HOPS} times.");
            return Err(Reason::new("MaxTransferHopCountExceeded", text));
        }
        let terms = self.terms(to).map_err(|fault| Reason::new("DestinationNotFound", fault.text))?;
        let size = arrival.message.raw.len() as u64;
        check_room(to, terms.status, terms.megabytes, terms.bytes, size).map_err(|fault| {
            let disabled = fault.condition == Condition::EntityDisabled;
            Reason::new(if disabled { "DestinationDisabled" } else { "DestinationFull" }, fault.text)
        })?;
        let (now, arrival) = (turn.now, arrival.clone());
        if let Some(topic) = self.topics.get_mut(to) {
            if !topic.is_duplicate(now, &arrival.message) {
                topic.arrive(turn, arrival);
            }
        } else if let Some(queue) = self.queues.get_mut(to)
            && !queue.is_duplicate(now, &arrival.message)
        {
            queue.arrive(turn, arrival);
        }
        Ok(())
    }
}

fn limits(kilobytes: u32) -> SenderLimits {
    SenderLimits { max_message_size: u64::from(kilobytes) * 1024 }
}

fn check_message(entity: &EntityPath, terms: &Terms, message: &Message) -> Result<(), Fault> {
    let properties = &message.properties;
    for (property, name) in [
        (SystemProperty::MessageId, "MessageId"),
        (SystemProperty::SessionId, "SessionId"),
        (SystemProperty::PartitionKey, "PartitionKey"),
    ] {
        if properties.get(property).is_some_and(|id| id.chars().count() > LONGEST_ID) {
            return Err(Fault::argument(format!(
                "The {name} of a message has at most {LONGEST_ID} characters."
            )));
        }
    }
    if terms.requires_session && properties.session_id.is_none() {
        return Err(Fault::not_allowed(format!(
            "The SessionId was not set on a message, and it cannot be sent to '{entity}'. Entities that have session \
             support enabled can only receive messages that have the SessionId set to a valid value."
        )));
    }
    let (session, partition) = (&properties.session_id, &properties.partition_key);
    if session.is_some() && partition.is_some() && session != partition {
        return Err(Fault::argument("The PartitionKey of a message differs from its SessionId."));
    }
    if message.scheduled_enqueue_time.is_some_and(|at| at == Time::NEVER) {
        return Err(Fault::argument("The scheduled enqueue time of a message never comes."));
    }
    Ok(())
}
