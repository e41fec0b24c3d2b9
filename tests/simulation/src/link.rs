//! A receiver's link to the namespace: sessions taken and given back, messages locked and settled, and everything that
//! goes wrong with that.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, UNIX_EPOCH};

use distributed_events::broker::{Delivery, Message, ReceiveError, Receiver};
use futures_core::future::BoxFuture;
use servicebus_emulator::model::api::{
    Delivery as Delivered, Input, LockToken, Outcome, Output, ReceiveMode, ReceiverId, SessionWish,
};
use servicebus_emulator::model::{Condition, EntityPath, Fault, Value};
use tokio::time::Instant;

use crate::namespace::{LOCK, NamespaceBroker};

/// Sessions that one link holds at a time.
const SESSIONS: usize = 4;
/// A session without messages goes back after so long.
const IDLE: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(crate) struct Link {
    broker: NamespaceBroker,
    path: EntityPath,
    has_sessions: bool,
    held: Vec<Held>,
    /// What is not settled, by the relay's token.
    locked: BTreeMap<u64, Locked>,
    last: u64,
    /// How often all links had been cut when this one was opened.
    cuts: u64,
}

#[derive(Clone, Debug)]
struct Held {
    receiver: ReceiverId,
    session: Option<String>,
    since: Instant,
    last_message: Instant,
}

#[derive(Clone, Debug)]
struct Locked {
    receiver: ReceiverId,
    session: Option<String>,
    /// None for what was delivered a second time, which nothing settles.
    token: Option<LockToken>,
}

impl Link {
    pub(crate) fn open(
        broker: NamespaceBroker,
        path: EntityPath,
        has_sessions: bool,
    ) -> Result<Self, ReceiveError> {
        let cuts = broker.namespace.cuts.load(Relaxed);
        let mut link =
            Self { broker, path, has_sessions, held: Vec::new(), locked: BTreeMap::new(), last: 0, cuts };
        if !has_sessions {
            let receiver = link.next_receiver();
            let entity = link.path.clone();
            link.broker
                .namespace
                .apply(Input::OpenReceiver { entity, receiver })
                .map_err(|fault| lost(&fault))?;
            link.hold(receiver, None);
        }
        Ok(link)
    }

    fn next_receiver(&self) -> ReceiverId {
        ReceiverId(self.broker.namespace.next_receiver())
    }

    fn hold(&mut self, receiver: ReceiverId, session: Option<String>) {
        let now = Instant::now();
        self.held.push(Held { receiver, session, since: now, last_message: now });
    }

    /// A call on its way, over a link that may be gone meanwhile.
    async fn arrive(&self, call: &str) -> Result<(), ReceiveError> {
        let mut chance = self.broker.process.chance(&format!("{call} {}", self.path));
        self.broker.process.travel(&mut chance).await;
        let namespace = &self.broker.namespace;
        if namespace.is_away() || namespace.cuts.load(Relaxed) != self.cuts {
            return Err(ReceiveError::Unavailable("the link was cut".to_owned()));
        }
        Ok(())
    }

    async fn receive_messages(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let deadline = Instant::now() + wait;
        loop {
            self.arrive("receive").await?;
            self.give_back_sessions();
            let mut all = Vec::new();
            for at in 0..self.held.len() {
                all.extend(self.receive_from(at, max - all.len())?);
            }
            if self.has_sessions && all.is_empty() && self.held.len() < SESSIONS && self.accept()? {
                all.extend(self.receive_from(self.held.len() - 1, max)?);
            }
            if !all.is_empty() || Instant::now() >= deadline {
                self.arrive("received").await?;
                return Ok(all);
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    fn accept(&mut self) -> Result<bool, ReceiveError> {
        let receiver = self.next_receiver();
        let input = Input::AcceptSession { entity: self.path.clone(), receiver, wish: SessionWish::Next };
        match self.broker.namespace.apply(input) {
            Ok(Output::Session(grant)) => {
                self.hold(receiver, Some(grant.session_id));
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(fault) if fault.condition == Condition::Timeout => Ok(false),
            Err(fault) => Err(lost(&fault)),
        }
    }

    fn receive_from(&mut self, at: usize, max: usize) -> Result<Vec<Delivery>, ReceiveError> {
        let Held { receiver, session, .. } = self.held[at].clone();
        if max == 0 {
            return Ok(Vec::new());
        }
        let input = Input::Receive {
            entity: self.path.clone(),
            receiver: Some(receiver),
            session: session.clone(),
            mode: ReceiveMode::PeekLock,
            max: u32::try_from(max).unwrap_or(u32::MAX),
        };
        let Output::Received(received) = self.broker.namespace.apply(input).map_err(|fault| lost(&fault))?
        else {
            return Ok(Vec::new());
        };
        if !received.is_empty() {
            self.held[at].last_message = Instant::now();
        }
        let mut deliveries = Vec::new();
        for delivered in &received {
            let mut chance = self.broker.process.chance("delivery");
            let token = delivered.lock.map(|(token, _)| token);
            deliveries.push(self.delivery(Locked { receiver, session: session.clone(), token }, delivered));
            if chance.happens(5) {
                let again = Locked { receiver, session: session.clone(), token: None };
                deliveries.push(self.delivery(again, delivered));
            }
        }
        Ok(deliveries)
    }

    fn delivery(&mut self, locked: Locked, delivered: &Delivered) -> Delivery {
        self.last += 1;
        self.locked.insert(self.last, locked);
        Delivery::new(self.last, message(delivered))
    }

    /// Sessions that have nothing, and those that are held for half of their lock, go back as soon as nothing of them is
    /// unsettled.
    fn give_back_sessions(&mut self) {
        let now = Instant::now();
        let (locked, namespace) = (&self.locked, &self.broker.namespace);
        self.held.retain(|held| {
            let is_over = now - held.last_message > IDLE || now - held.since > LOCK / 2;
            let stays = held.session.is_none()
                || !is_over
                || locked.values().any(|locked| locked.receiver == held.receiver);
            if !stays {
                let _closed = namespace.apply(Input::CloseReceiver { receiver: held.receiver });
            }
            stays
        });
    }

    async fn settle(&mut self, tokens: &[u64], outcome: Outcome) -> Result<(), ReceiveError> {
        self.arrive("settle").await?;
        let mut chance = self.broker.process.chance("settled");
        let is_lost = chance.happens(5);
        for token in tokens {
            let Some(Locked { receiver, session, token: Some(lock) }) = self.locked.remove(token) else {
                continue;
            };
            if is_lost {
                continue;
            }
            // A lock that is gone is known by the message's coming again.
            let _settled = self.broker.namespace.apply(Input::Settle {
                entity: self.path.clone(),
                receiver: Some(receiver),
                session,
                tokens: vec![lock],
                outcome: outcome.clone(),
            });
        }
        if is_lost {
            self.broker.process.say(|| format!("{} settles are lost", tokens.len()));
            return Err(ReceiveError::Unavailable("the link was cut before the settles".to_owned()));
        }
        Ok(())
    }
}

impl Receiver for Link {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(self.receive_messages(max, wait))
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(self.settle(tokens, Outcome::Complete))
    }

    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(self.settle(tokens, Outcome::Release))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A dead process says nothing, and its locks last until they end.
        if !self.broker.process.is_dead() {
            for held in &self.held {
                let _closed = self.broker.namespace.apply(Input::CloseReceiver { receiver: held.receiver });
            }
        }
    }
}

fn lost(fault: &Fault) -> ReceiveError {
    ReceiveError::Unavailable(fault.text.to_string())
}

fn message(delivered: &Delivered) -> Message {
    let mut message = Message::default();
    let properties = &delivered.message.properties;
    message.message_id = properties.message_id.clone();
    message.subject = properties.subject.clone();
    message.body = delivered.message.raw.to_vec();
    message.session_id = properties.session_id.clone();
    message.correlation_id = properties.correlation_id.clone();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.text()?.to_owned()));
    message.properties = delivered.message.application.iter().filter_map(text).collect();
    message.dead_letter_reason = message.properties.remove("DeadLetterReason");
    message.sequence_number = delivered.sequence_number;
    message.enqueued_at = Some(UNIX_EPOCH + Duration::from_millis(delivered.enqueued_time.0));
    message
}
