//! The namespace: all entities, and who gets which input.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::queue::{Caller, Queue};
use super::topic::Topic;
use super::turn::{Ids, Turn};
use super::{Applied, Condition, EntityPath, Fault, Input, Output, ReceiverId, SubQueue, Time};

/// A namespace. Two that got the same inputs at the same times are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    ids: Ids,
    /// Queues and subscriptions by their paths.
    pub(super) queues: BTreeMap<EntityPath, Queue>,
    pub(super) topics: BTreeMap<EntityPath, Topic>,
    receivers: BTreeMap<ReceiverId, OpenReceiver>,
    last_receiver: ReceiverId,
    /// When which entity has something to do; each entity stands there once at most.
    timers: BTreeSet<(Time, EntityPath)>,
    deadlines: BTreeMap<EntityPath, Time>,
    busy: BTreeMap<EntityPath, Time>,
    all_busy: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenReceiver {
    /// With its sub-queue.
    entity: EntityPath,
    session: Option<String>,
}

impl Model {
    /// An empty namespace. The seed makes its lock tokens other than those of another.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            ids: Ids::new(seed),
            queues: BTreeMap::new(),
            topics: BTreeMap::new(),
            receivers: BTreeMap::new(),
            last_receiver: ReceiverId(0),
            timers: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            busy: BTreeMap::new(),
            all_busy: Time(0),
        }
    }

    /// Lets an input happen, after all that was due by then.
    pub fn apply(&mut self, now: Time, input: Input) -> Applied {
        let mut turn = Turn::new(now, self.ids);
        while let Some((deadline, path)) = self.timers.first().cloned()
            && deadline <= now
        {
            self.tick(&mut turn, &path);
        }
        let output = self.dispatch(&mut turn, input);
        self.end(&mut turn);
        self.ids = turn.ids;
        let changed = turn.changed;
        Applied { output, changed, woken: turn.into_woken() }
    }

    fn tick(&mut self, turn: &mut Turn, path: &EntityPath) {
        // Whatever happens below, the timer is done with; `end` sets the next one.
        if let Some(deadline) = self.deadlines.remove(path) {
            self.timers.remove(&(deadline, path.clone()));
        }
        if let Some(queue) = self.queues.get_mut(path) {
            queue.tick(turn);
            if queue.is_idle(turn.now) {
                self.delete(turn, path);
            }
        } else if let Some(topic) = self.topics.get_mut(path) {
            topic.tick(turn);
            if topic.is_idle(turn.now) {
                self.delete(turn, path);
            }
        }
        self.end(turn);
    }

    /// Delivers what entities sent each other and sets the timers of all that changed.
    fn end(&mut self, turn: &mut Turn) {
        self.deliver(turn);
        for path in std::mem::take(&mut turn.dirty) {
            let next = match (self.queues.get(&path), self.topics.get(&path)) {
                (Some(queue), _) => queue.next_deadline(),
                (_, Some(topic)) => topic.next_deadline(),
                _ => None,
            };
            if self.deadlines.get(&path).copied() == next {
                continue;
            }
            if let Some(deadline) = self.deadlines.remove(&path) {
                self.timers.remove(&(deadline, path.clone()));
            }
            if let Some(deadline) = next {
                self.deadlines.insert(path.clone(), deadline);
                self.timers.insert((deadline, path));
            }
        }
    }

    fn dispatch(&mut self, turn: &mut Turn, input: Input) -> Result<Output, Fault> {
        match input {
            Input::Tick => Ok(Output::Done),
            Input::Restart => {
                let receivers: Vec<_> = self.receivers.keys().copied().collect();
                receivers.into_iter().for_each(|receiver| self.close(turn, receiver));
                Ok(Output::Done)
            }
            Input::CreateQueue { .. }
            | Input::UpdateQueue { .. }
            | Input::CreateTopic { .. }
            | Input::UpdateTopic { .. }
            | Input::CreateSubscription { .. }
            | Input::UpdateSubscription { .. }
            | Input::DeleteEntity { .. }
            | Input::CreateRule { .. }
            | Input::UpdateRule { .. }
            | Input::DeleteRule { .. } => self.administer(turn, input).map(|()| Output::Done),
            Input::Send { entity, messages } => self.send(turn, &entity, messages, false),
            Input::Schedule { entity, messages } => self.send(turn, &entity, messages, true),
            Input::CancelScheduled { entity, sequence_numbers } => {
                self.cancel(turn, &entity, &sequence_numbers)
            }
            Input::InjectServerBusy { entity, until } => {
                match entity {
                    Some(entity) if !self.has(&entity) => return Err(Fault::not_found(entity)),
                    Some(entity) => self.busy.insert(entity.entity(), until),
                    None => Some(std::mem::replace(&mut self.all_busy, until)),
                };
                turn.changed = true;
                Ok(Output::Done)
            }
            Input::CloseReceiver { receiver } => {
                self.close(turn, receiver);
                Ok(Output::Done)
            }
            input => self.receiving(turn, input),
        }
    }

    fn receiving(&mut self, turn: &mut Turn, input: Input) -> Result<Output, Fault> {
        match input {
            Input::OpenReceiver { entity, receiver } => {
                self.check_free(receiver)?;
                let queue = self.usable_queue(turn.now, &entity)?;
                queue.check_receiver(entity.sub(), false)?;
                queue.open += 1;
                queue.touch(turn);
                self.open(receiver, entity, None);
                Ok(Output::Done)
            }
            Input::AcceptSession { entity, receiver, wish } => {
                self.check_free(receiver)?;
                let queue = self.usable_queue(turn.now, &entity)?;
                queue.check_receiver(entity.sub(), true)?;
                let grant = queue.accept_session(turn, receiver, &wish)?;
                self.open(receiver, entity, Some(grant.session_id.clone()));
                Ok(Output::Session(grant))
            }
            Input::Receive { entity, receiver, session, mode, max } => {
                let caller = Caller { sub: entity.sub(), receiver, session: session.as_deref() };
                self.usable_queue(turn.now, &entity)?.receive(turn, caller, mode, max).map(Output::Received)
            }
            Input::ReceiveDeferred { entity, receiver, session, mode, sequence_numbers } => {
                let caller = Caller { sub: entity.sub(), receiver, session: session.as_deref() };
                let queue = self.usable_queue(turn.now, &entity)?;
                queue.receive_deferred(turn, caller, mode, &sequence_numbers).map(Output::Received)
            }
            Input::DeleteMessages { entity, session, max, before } => {
                let caller = Caller { sub: entity.sub(), receiver: None, session: session.as_deref() };
                self.usable_queue(turn.now, &entity)?
                    .delete_messages(turn, caller, max, before)
                    .map(Output::Deleted)
            }
            Input::Settle { entity, receiver, session, tokens, outcome } => {
                let caller = Caller { sub: entity.sub(), receiver, session: session.as_deref() };
                let queue = self.queue_mut(&entity)?;
                queue.check_outcome(caller, &outcome)?;
                let settle = |token| queue.settle(turn, caller, token, &outcome);
                Ok(Output::Settled(tokens.into_iter().map(settle).collect()))
            }
            Input::RenewLocks { entity, session, tokens } => {
                let caller = Caller { sub: entity.sub(), receiver: None, session: session.as_deref() };
                self.queue_mut(&entity)?.renew_locks(turn, caller, &tokens).map(Output::Renewed)
            }
            Input::RenewSession { entity, receiver, session } => {
                let until = self.session_queue(&entity)?.renew_session(turn, receiver, &session)?;
                Ok(Output::Renewed(vec![until]))
            }
            Input::SetSessionState { entity, receiver, session, state } => {
                self.session_queue(&entity)?.set_session_state(turn, receiver, &session, state)?;
                Ok(Output::Done)
            }
            _ => Err(Fault::new(Condition::InternalError, "an input that no part of the model takes")),
        }
    }

    fn check_free(&self, receiver: ReceiverId) -> Result<(), Fault> {
        match self.receivers.get(&receiver) {
            None => Ok(()),
            Some(open) => Err(Fault::argument(format!("The receiver is already open at '{}'.", open.entity))),
        }
    }

    fn open(&mut self, receiver: ReceiverId, entity: EntityPath, session: Option<String>) {
        self.receivers.insert(receiver, OpenReceiver { entity, session });
        self.last_receiver = self.last_receiver.max(receiver);
    }

    fn close(&mut self, turn: &mut Turn, receiver: ReceiverId) {
        let Some(open) = self.receivers.remove(&receiver) else {
            return;
        };
        turn.changed = true;
        let Some(queue) = self.queues.get_mut(&open.entity.entity()) else {
            return;
        };
        let sub = open.entity.sub();
        queue.receiver_gone(turn, Caller { sub, receiver: Some(receiver), session: open.session.as_deref() });
    }

    /// Takes an entity and all that is in it away; a topic with its subscriptions.
    pub(super) fn delete(&mut self, turn: &mut Turn, path: &EntityPath) {
        let mut gone = vec![path.clone()];
        if let Some(topic) = self.topics.remove(path) {
            gone.extend(topic.subscriptions.into_keys());
        }
        if let Some(topic) = path.topic().and_then(|topic| self.topics.get_mut(&topic)) {
            topic.subscriptions.remove(path);
        }
        for path in gone {
            self.queues.remove(&path);
            self.busy.remove(&path);
            self.receivers.retain(|_, open| open.entity.entity() != path);
            for sub in [SubQueue::Main, SubQueue::DeadLetter, SubQueue::TransferDeadLetter] {
                turn.wake(&path.with(sub));
            }
            turn.mark(&path);
        }
    }

    pub(super) fn queue(&self, path: &EntityPath) -> Result<&Queue, Fault> {
        self.queues.get(&path.entity()).ok_or_else(|| self.no_queue(path))
    }

    fn queue_mut(&mut self, path: &EntityPath) -> Result<&mut Queue, Fault> {
        let entity = path.entity();
        if !self.queues.contains_key(&entity) {
            return Err(self.no_queue(path));
        }
        self.queues.get_mut(&entity).ok_or_else(|| Fault::not_found(path))
    }

    fn has(&self, path: &EntityPath) -> bool {
        self.queues.contains_key(&path.entity()) || self.topics.contains_key(&path.entity())
    }

    fn no_queue(&self, path: &EntityPath) -> Fault {
        if self.topics.contains_key(&path.entity()) {
            return Fault::not_allowed(format!(
                "'{path}' is a topic: messages are received from its subscriptions."
            ));
        }
        Fault::not_found(path)
    }

    fn usable_queue(&mut self, now: Time, path: &EntityPath) -> Result<&mut Queue, Fault> {
        self.check_busy(now, path)?;
        self.queue_mut(path)
    }

    fn session_queue(&mut self, path: &EntityPath) -> Result<&mut Queue, Fault> {
        let queue = self.queue_mut(path)?;
        queue.check_receiver(path.sub(), true)?;
        Ok(queue)
    }

    pub(super) fn check_busy(&self, now: Time, path: &EntityPath) -> Result<(), Fault> {
        let until = self.busy.get(&path.entity()).copied().unwrap_or_default().max(self.all_busy);
        if until <= now {
            return Ok(());
        }
        Err(Fault::new(
            Condition::ServerBusy,
            "The request was terminated because the entity is being throttled. Error code: 50009. Please wait 2 \
             seconds and try again.",
        ))
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// The highest receiver that ever came.
    #[must_use]
    pub fn last_receiver(&self) -> ReceiverId {
        self.last_receiver
    }
}
