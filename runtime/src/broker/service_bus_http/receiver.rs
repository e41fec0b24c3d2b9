//! Receiving over HTTPS: one request for each message, several at once while there are some, and one that waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core_0_21::headers::Headers;
use azure_messaging_servicebus::service_bus::{PeekLockResponse, SubscriptionReceiver};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::message::decode;
use super::refusal::Refusal;
use crate::broker::namespace::Met;
use crate::broker::{Delivery, ReceiveError, Receiver, Source};

/// How many messages are asked for at once, as long as there are some.
const ASKED_AT_ONCE: usize = 32;
/// How long the last request waits for a message, in whole seconds as everything here.
const PATIENT: Duration = Duration::from_secs(20);
/// How long those beside it wait.
const BRIEF: Duration = Duration::from_secs(1);
/// Messages that are being settled: what comes is taken no faster than it can be settled.
const SETTLING: usize = 64;

/// A message under its lock, or none in time.
type Asked = Result<Option<Box<PeekLockResponse>>, Refusal>;

/// A receiver of a subscription without sessions.
pub(super) struct HttpReceiver {
    client: SubscriptionReceiver,
    source: Source,
    advice: String,
    met: Arc<Met>,
    asking: JoinSet<Asked>,
    /// How many to ask for at once: more as long as there are some, one when there are none.
    wanted: usize,
    /// Arrived and not handed out.
    arrived: VecDeque<Delivery>,
    /// Handed out or arrived, and not settled.
    unsettled: HashMap<u64, Box<PeekLockResponse>>,
    settling: Arc<Semaphore>,
    next: u64,
    failure: Option<Refusal>,
}

impl fmt::Debug for HttpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReceiver").field("source", &self.source).finish_non_exhaustive()
    }
}

impl HttpReceiver {
    pub(super) fn new(client: SubscriptionReceiver, source: Source, advice: String, met: Arc<Met>) -> Self {
        Self {
            client,
            source,
            advice,
            met,
            asking: JoinSet::new(),
            wanted: 1,
            arrived: VecDeque::new(),
            unsettled: HashMap::new(),
            settling: Arc::new(Semaphore::new(SETTLING)),
            next: 0,
            failure: None,
        }
    }

    /// Asks for a first message, which is kept, and waits a little whether the question is refused.
    pub(super) async fn is_refused_within(&mut self, wait: Duration) -> Option<Refusal> {
        self.ask(1);
        let answered = tokio::time::timeout(wait, self.asking.join_next()).await;
        self.answered(answered.ok()??);
        self.failure.take()
    }

    /// Has so many requests under way, one of which is patient.
    fn ask(&mut self, max: usize) {
        let wanted = self.wanted.min(max.saturating_sub(self.arrived.len()));
        while self.asking.len() < wanted && self.failure.is_none() {
            let client = self.client.clone();
            let wait = if self.asking.is_empty() { PATIENT } else { BRIEF };
            self.asking.spawn(async move { ask_once(&client, wait).await });
        }
    }

    fn answered(&mut self, answered: Result<Asked, tokio::task::JoinError>) {
        match answered.unwrap_or_else(|error| Err(Refusal::NoAnswer(error.to_string()))) {
            Ok(Some(locked)) => {
                self.wanted = (self.wanted * 2).min(ASKED_AT_ONCE);
                self.next += 1;
                self.arrived.push_back(Delivery::new(self.next, message_of(&locked)));
                self.unsettled.insert(self.next, locked);
            }
            Ok(None) => self.wanted = 1,
            Err(refusal) => self.failure = Some(refusal),
        }
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let deadline = Instant::now() + wait;
        loop {
            while let Some(answered) = self.asking.try_join_next() {
                self.answered(answered);
            }
            self.ask(max);
            if !self.arrived.is_empty() {
                // Requests overtake each other; this is as near to the order of the broker as can be had.
                self.arrived.make_contiguous().sort_by_key(|delivery| delivery.message.sequence_number);
                let count = max.min(self.arrived.len());
                return Ok(self.arrived.drain(..count).collect());
            }
            if let Some(refusal) = self.failure.take() {
                if refusal.is_busy() {
                    self.met.throttled();
                }
                return Err(refusal.receiving(&self.source, &self.advice));
            }
            match tokio::time::timeout_at(deadline, self.asking.join_next()).await {
                Ok(Some(answered)) => self.answered(answered),
                // There is always one, unless nothing was asked for.
                Ok(None) | Err(_) => return Ok(Vec::new()),
            }
        }
    }

    /// Breaks off what is still asked for: it would take what is given back, again and again, and each time counts as a
    /// failed delivery. A message that was locked just now is free when its lock runs out.
    async fn stop_asking(&mut self) {
        self.asking.abort_all();
        while let Some(answered) = self.asking.join_next().await {
            if answered.is_ok() {
                self.answered(answered);
            }
        }
    }

    /// Settles in the background, so that receiving goes on; what isn't settled comes again, and is known.
    async fn settle(&mut self, tokens: &[u64], settle: Settle) {
        for token in tokens {
            let Some(locked) = self.unsettled.remove(token) else { continue };
            // It is never closed.
            let permit = Arc::clone(&self.settling).acquire_owned().await.ok();
            tokio::spawn(settle.one(locked, self.source.entity(), Arc::clone(&self.met), permit));
        }
    }
}

async fn ask_once(client: &SubscriptionReceiver, wait: Duration) -> Asked {
    let answer = client.peek_lock_message2(Some(wait)).await.map_err(Refusal::of)?;
    // Everything that is no success was made an error by our HTTP client; 204 is "none".
    Ok((*answer.status() as u16 == 201).then(|| Box::new(answer)))
}

fn message_of(locked: &PeekLockResponse) -> crate::broker::Message {
    let Ok(headers) = locked.custom_properties::<Headers>();
    // It was encoded by our own HTTP client.
    decode(&headers, STANDARD.decode(locked.body()).unwrap_or_default())
}

#[derive(Clone, Copy, Debug)]
enum Settle {
    Complete,
    GiveBack,
}

impl Settle {
    async fn one(
        self,
        locked: Box<PeekLockResponse>,
        entity: String,
        met: Arc<Met>,
        _permit: Option<OwnedSemaphorePermit>,
    ) {
        let settled = match self {
            Self::Complete => locked.delete_message().await.map(drop),
            Self::GiveBack => locked.unlock_message().await,
        };
        match settled.map_err(Refusal::of) {
            Ok(()) => {}
            Err(lost) if lost.is_lock_lost() => {
                met.locks_lost(1);
                tracing::debug!(%entity, "a lock ran out before its message was stored");
            }
            Err(refusal) => {
                tracing::debug!(%entity, %refusal, "a message could not be settled, and comes again")
            }
        }
    }
}

impl Receiver for HttpReceiver {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(Self::receive(self, max, wait))
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            self.settle(tokens, Settle::Complete).await;
            Ok(())
        })
    }

    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(async move {
            self.stop_asking().await;
            self.settle(tokens, Settle::GiveBack).await;
            Ok(())
        })
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        let Ok(_runtime) = tokio::runtime::Handle::try_current() else { return };
        self.asking.abort_all();
        while let Some(answered) = self.asking.try_join_next() {
            if answered.is_ok() {
                self.answered(answered);
            }
        }
        for (_, locked) in self.unsettled.drain() {
            tokio::spawn(Settle::GiveBack.one(locked, self.source.entity(), Arc::clone(&self.met), None));
        }
    }
}
