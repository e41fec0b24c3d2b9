//! Receiving from a subscription: over one link, or over one for each session that is held.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fe2o3_amqp::link::delivery::DeliveryInfo;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::condition::Trouble;
use super::connection::{Namespace, Opened};
use super::link::{self, Attached, Command, Report, Wish};
use crate::broker::{Delivery, ReceiveError, Receiver, Source};

/// How many sessions are held at once: as many as there are pseudo-sessions, so that all of them can flow (rule 20).
const SESSIONS: usize = 32;
/// How many sessions are asked for at once, as long as there are such: each takes a round trip.
const ASKED_AT_ONCE: usize = 8;
/// How long a session without messages is held.
const IDLE_SESSION: Duration = Duration::from_millis(500);
/// The same for one that has had messages, while as many are held as can be, and others may wait.
const IDLE_SESSION_WHEN_FULL: Duration = Duration::from_millis(100);
/// How long a session is held at most while messages come, so that others get their turn.
const BUSY_SESSION: Duration = Duration::from_secs(10);
/// How long Service Bus is to wait for the next free session.
const NEXT_SESSION: Duration = Duration::from_secs(20);
/// Where the session's lock would run out sooner, it is given back after this part of it, so that none is renewed.
const LOCK_PART: u32 = 2;
/// A message whose lock runs out this soon isn't settled any more: it comes again, and is known.
const LOCK_MARGIN: Duration = Duration::from_millis(100);
/// Messages on their way on the link of a session.
const SESSION_CREDIT: u32 = 50;

/// A receiver of a subscription.
pub(super) struct SubscriptionReceiver {
    namespace: Arc<Namespace>,
    source: Source,
    address: String,
    advice: String,
    sessions: bool,
    links: HashMap<u64, Link>,
    reports: mpsc::UnboundedReceiver<(u64, Report)>,
    reporter: mpsc::UnboundedSender<(u64, Report)>,
    accepting: JoinSet<Result<Attached, Trouble>>,
    /// How many sessions to ask for at once: more as long as there are some, one when there are none.
    asked: usize,
    /// AMQP sessions whose links were closed.
    spare: Vec<Opened>,
    /// Arrived and not handed out.
    arrived: VecDeque<Delivery>,
    /// Handed out or arrived, and not settled.
    unsettled: HashMap<u64, Unsettled>,
    next: u64,
    failure: Option<Trouble>,
}

/// A link as its owner knows it.
struct Link {
    commands: mpsc::UnboundedSender<Command>,
    /// May still arrive.
    credit: u32,
    unsettled: usize,
    last_message: Instant,
    /// Whether a message has come.
    heard: bool,
    /// When it is to be given back even though messages come.
    until: Option<Instant>,
}

struct Unsettled {
    link: u64,
    info: DeliveryInfo,
    locked_until: Option<SystemTime>,
}

impl fmt::Debug for SubscriptionReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionReceiver")
            .field("address", &self.address)
            .field("sessions", &self.sessions)
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

impl SubscriptionReceiver {
    /// Attaches; whether the entity has sessions is found out.
    pub(super) async fn open(
        namespace: Arc<Namespace>,
        source: Source,
        address: String,
        advice: String,
    ) -> Result<Self, ReceiveError> {
        let plain = link::attach(&namespace, &address, Wish::Plain, None).await;
        let (reporter, reports) = mpsc::unbounded_channel();
        let mut receiver = Self {
            namespace,
            source,
            address,
            advice,
            sessions: false,
            links: HashMap::new(),
            reports,
            reporter,
            accepting: JoinSet::new(),
            asked: 1,
            spare: Vec::new(),
            arrived: VecDeque::new(),
            unsettled: HashMap::new(),
            next: 0,
            failure: None,
        };
        match plain {
            Ok(attached) => receiver.serve(attached),
            Err(trouble) if trouble.is_other_kind() && !receiver.source.dead_letter_queue => {
                receiver.sessions = true;
                receiver.accept(Wish::NextSession(NEXT_SESSION));
            }
            Err(trouble) => return Err(receiver.error(trouble)),
        }
        Ok(receiver)
    }

    /// Whether the entity hands out its messages session by session.
    pub(super) fn has_sessions(&self) -> bool {
        self.sessions
    }

    fn error(&self, trouble: Trouble) -> ReceiveError {
        if trouble.is_busy() {
            self.namespace.met.throttled();
        }
        trouble.receiving(&self.source, &self.advice)
    }

    fn serve(&mut self, attached: Attached) {
        self.next += 1;
        let number = self.next;
        let (commands, told) = mpsc::unbounded_channel();
        let now = Instant::now();
        let until = self.sessions.then(|| {
            let lock = attached
                .session_locked_until
                .and_then(|until| until.duration_since(SystemTime::now()).ok())
                .unwrap_or(BUSY_SESSION * LOCK_PART);
            now + BUSY_SESSION.min(lock / LOCK_PART)
        });
        self.links.insert(
            number,
            Link { commands, credit: 0, unsettled: 0, last_message: now, heard: false, until },
        );
        let reporter = self.reporter.clone();
        let report = move |report| reporter.send((number, report)).map_err(|unheard| unheard.0.1);
        tokio::spawn(attached.serve(told, report));
    }

    fn accept(&mut self, wish: Wish) {
        let (namespace, address) = (Arc::clone(&self.namespace), self.address.clone());
        let spare = self.spare.pop();
        self.accepting.spawn(async move { link::attach(&namespace, &address, wish, spare).await });
    }

    /// Whether no more sessions can be held.
    fn is_full(&self) -> bool {
        self.links.len() >= SESSIONS
    }

    /// Lets so many messages come over each link as its turn allows, and gives back sessions whose turn is over.
    fn tend(&mut self, max: u32) {
        let now = Instant::now();
        let (sessions, full, waiting) = (self.sessions, self.is_full(), self.arrived.len());
        self.links.retain(|_, link| {
            if !sessions {
                // Not what would only wait here, under its lock.
                if waiting <= max as usize {
                    link.issue(max * 2);
                }
                return true;
            }
            let over = link.until.is_some_and(|until| until <= now);
            if (over || link.idle_at(full) <= now) && link.unsettled == 0 {
                // Its task closes the link when it has lost its owner.
                return false;
            }
            if !over {
                link.issue(max.min(SESSION_CREDIT));
            }
            true
        });
        if sessions {
            while self.accepting.len() < self.asked && self.links.len() + self.accepting.len() < SESSIONS {
                self.accept(Wish::NextSession(NEXT_SESSION));
            }
        }
    }

    /// When a session's turn is to be looked at again.
    fn next_look(&self) -> Option<Instant> {
        let full = self.is_full();
        self.links
            .values()
            .filter(|link| self.sessions && link.unsettled == 0)
            .map(|link| link.until.map_or(Instant::now(), |until| until.min(link.idle_at(full))))
            .min()
    }

    fn reported(&mut self, number: u64, report: Report) {
        match (report, self.links.get_mut(&number)) {
            (Report::Free(opened), _) => self.spare.push(opened),
            // A session that was given back; what came late goes back with it.
            (_, None) => {}
            (Report::Delivery { info, message, locked_until }, Some(link)) => {
                link.credit = link.credit.saturating_sub(1);
                link.unsettled += 1;
                link.last_message = Instant::now();
                link.heard = true;
                self.next += 1;
                self.unsettled.insert(self.next, Unsettled { link: number, info, locked_until });
                self.arrived.push_back(Delivery::new(self.next, *message));
            }
            (Report::Unreadable { reason }, Some(link)) => {
                link.credit = link.credit.saturating_sub(1);
                tracing::error!(
                    entity = %self.address, %reason,
                    "a message can't be read and is kept in the dead-letter queue: look at it with Service Bus Explorer"
                );
            }
            (Report::Ended(trouble), Some(_)) => {
                self.links.remove(&number);
                // Its deliveries are somebody else's again (rule 18).
                self.unsettled.retain(|_, unsettled| unsettled.link != number);
                if self.sessions && trouble.condition().is_some() {
                    self.namespace.met.locks_lost(1);
                    tracing::debug!(entity = %self.address, %trouble, "a session was taken away");
                } else if trouble.is_idle_detach() {
                    self.accept(Wish::Plain);
                } else {
                    self.failure = Some(trouble);
                }
            }
        }
    }

    fn accepted(&mut self, accepted: Result<Attached, Trouble>) {
        match accepted {
            Ok(attached) => {
                self.asked = (self.asked * 2).min(ASKED_AT_ONCE);
                self.serve(attached);
            }
            Err(trouble) if trouble.is_no_session() => self.asked = 1,
            Err(trouble) if self.sessions && trouble.is_idle_detach() => self.asked = 1,
            Err(trouble) => self.failure = Some(trouble),
        }
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let deadline = Instant::now() + wait;
        loop {
            while let Ok((number, report)) = self.reports.try_recv() {
                self.reported(number, report);
            }
            // After what has come is counted: while it is stored, the next is to be on its way.
            self.tend(u32::try_from(max).unwrap_or(u32::MAX / 2));
            if !self.arrived.is_empty() {
                let count = max.min(self.arrived.len());
                return Ok(self.arrived.drain(..count).collect());
            }
            if let Some(trouble) = self.failure.take() {
                return Err(self.error(trouble));
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            let look = self.next_look().map_or(deadline, |look| look.min(deadline));
            tokio::select! {
                Some((number, report)) = self.reports.recv() => self.reported(number, report),
                Some(accepted) = self.accepting.join_next(), if !self.accepting.is_empty() => {
                    match accepted {
                        Ok(accepted) => self.accepted(accepted),
                        Err(error) => self.failure = Some(Trouble::broken(error)),
                    }
                }
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    /// Takes deliveries off the books, by link, in order.
    fn settle(&mut self, tokens: &[u64], command: fn(Vec<DeliveryInfo>) -> Command) {
        let now = SystemTime::now();
        let mut by_link: Vec<(u64, Vec<DeliveryInfo>)> = Vec::new();
        for token in tokens {
            let Some(unsettled) = self.unsettled.remove(token) else {
                continue;
            };
            if let Some(link) = self.links.get_mut(&unsettled.link) {
                link.unsettled = link.unsettled.saturating_sub(1);
            }
            // Service Bus would not say that it came too late.
            if unsettled.locked_until.is_some_and(|until| until < now + LOCK_MARGIN) {
                self.namespace.met.locks_lost(1);
                tracing::debug!(entity = %self.address, "a lock ran out before its message was stored");
                continue;
            }
            match by_link.iter_mut().find(|(link, _)| *link == unsettled.link) {
                Some((_, infos)) => infos.push(unsettled.info),
                None => by_link.push((unsettled.link, vec![unsettled.info])),
            }
        }
        for (number, infos) in by_link {
            if let Some(link) = self.links.get(&number) {
                // A task that has ended has said so in its reports.
                let _ended = link.commands.send(command(infos));
            }
        }
    }
}

impl Link {
    /// When its session is idle, if no message comes.
    fn idle_at(&self, full: bool) -> Instant {
        let patience = if full && self.heard { IDLE_SESSION_WHEN_FULL } else { IDLE_SESSION };
        self.last_message + patience
    }

    /// Lets so many messages be on their way, once half of them have come.
    fn issue(&mut self, credit: u32) {
        if self.credit <= credit / 2 {
            self.credit = credit;
            let _ended = self.commands.send(Command::Credit(credit));
        }
    }
}

impl Receiver for SubscriptionReceiver {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        Box::pin(Self::receive(self, max, wait))
    }

    fn complete<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        self.settle(tokens, Command::Complete);
        Box::pin(std::future::ready(Ok(())))
    }

    fn abandon<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        self.settle(tokens, Command::GiveBack);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for SubscriptionReceiver {
    fn drop(&mut self) {
        let tokens: Vec<_> = self.unsettled.keys().copied().collect();
        self.settle(&tokens, Command::GiveBack);
    }
}
