//! What every message went through, kept by a second, much simpler book: states by message, and no indexes at all.

mod acts;

use std::collections::{BTreeMap, BTreeSet};

use servicebus_emulator::model::{
    Delivery, Fault, Input, LockToken, MessageState, Model, Output, ReceiveMode, ReceiverId, Span, Time,
};

use crate::world::{path, sql};

const DELIVERIES: u32 = 3;
const PLAIN: [&str; 2] = ["q", "t/Subscriptions/a"];
const QUEUES: [&str; 3] = ["q", "t/Subscriptions/a", "s"];
const SESSIONS: [&str; 3] = ["", "one", "two"];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Send { target: usize, count: usize, session: usize, delay: u64 },
    Receive { queue: usize, receiver: usize, delete: bool, max: u32 },
    Accept { receiver: usize, session: Option<usize> },
    ReceiveInSession { receiver: usize, max: u32 },
    Settle { pick: usize, outcome: usize },
    SettleStale { pick: usize },
    Renew { pick: usize },
    RenewSession { receiver: usize },
    ReceiveDeferred { pick: usize },
    Cancel { pick: usize },
    Close { receiver: usize, session: bool },
    Wait { milliseconds: u64 },
    Restart,
}

/// Where a copy of a message is.
#[derive(Clone, Debug, PartialEq)]
enum At {
    Waiting,
    Deferred,
    Held { token: LockToken, until: Time, receiver: Option<ReceiverId>, deferred: bool },
    Scheduled { until: Time, number: i64 },
    Dead,
}

#[derive(Clone, Debug)]
struct Copy {
    at: At,
    session: &'static str,
    failed: u32,
}

/// A copy's queue and id.
type Key = (&'static str, String);

pub(crate) struct Oracle {
    pub(crate) model: Model,
    pub(crate) seed: u64,
    pub(crate) journal: Vec<(Time, Input)>,
    now: Time,
    sent: u64,
    copies: BTreeMap<Key, Copy>,
    /// Messages that a topic holds back, by id.
    topic: BTreeMap<String, (Time, i64)>,
    /// Sessions and their holders.
    sessions: BTreeMap<&'static str, (ReceiverId, Time)>,
    tokens: BTreeSet<LockToken>,
    stale: Vec<(Key, LockToken)>,
    highest: BTreeMap<&'static str, i64>,
}

fn plain_receiver(queue: usize, receiver: usize) -> ReceiverId {
    ReceiverId((10 + queue * 3 + receiver) as u64)
}

fn session_receiver(receiver: usize) -> ReceiverId {
    ReceiverId((100 + receiver) as u64)
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let mut oracle = Self {
            model: Model::new(42),
            seed: 42,
            journal: Vec::new(),
            now: Time(1_000_000),
            sent: 0,
            copies: BTreeMap::new(),
            topic: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tokens: BTreeSet::new(),
            stale: Vec::new(),
            highest: BTreeMap::new(),
        };
        let queue = |requires_session| servicebus_emulator::model::QueueSettings {
            requires_session,
            max_delivery_count: DELIVERIES,
            ..Default::default()
        };
        let subscription = |forward_to| servicebus_emulator::model::SubscriptionSettings {
            max_delivery_count: DELIVERIES,
            forward_to,
            ..Default::default()
        };
        let odd = Some(("odd".to_owned(), sql("number % 2 = 1")));
        for input in [
            Input::CreateQueue { path: path("q"), settings: queue(false) },
            Input::CreateQueue { path: path("s"), settings: queue(true) },
            Input::CreateTopic { path: path("t"), settings: Default::default() },
            Input::CreateSubscription { path: path(PLAIN[1]), settings: subscription(None), rule: None },
            Input::CreateSubscription {
                path: path("t/Subscriptions/b"),
                settings: subscription(Some(path("q"))),
                rule: odd,
            },
        ] {
            oracle.apply(input).unwrap();
        }
        oracle.open_all();
        oracle
    }

    fn open_all(&mut self) {
        for (queue, name) in PLAIN.into_iter().enumerate() {
            for receiver in 0..3 {
                let receiver = plain_receiver(queue, receiver);
                self.apply(Input::OpenReceiver { entity: path(name), receiver }).unwrap();
            }
        }
    }

    fn apply(&mut self, input: Input) -> Result<Output, Fault> {
        let applied = self.model.apply(self.now, input.clone());
        if applied.changed {
            self.journal.push((self.now, input));
        }
        assert!(
            self.model.next_deadline().is_none_or(|deadline| deadline > self.now),
            "something due is left"
        );
        applied.output
    }

    pub(crate) fn step(&mut self, op: Op) {
        match op {
            Op::Send { target, count, session, delay } => self.send(target, count, SESSIONS[session], delay),
            Op::Receive { queue, receiver, delete, max } => {
                let mode = if delete { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
                self.receive(PLAIN[queue], Some(plain_receiver(queue, receiver)), None, mode, max);
            }
            Op::Accept { receiver, session } => self.accept(session_receiver(receiver), session),
            Op::ReceiveInSession { receiver, max } => {
                let receiver = session_receiver(receiver);
                let held = self.sessions.iter().find(|(_, (holder, _))| *holder == receiver);
                if let Some(session) = held.map(|(session, _)| *session) {
                    self.receive("s", Some(receiver), Some(session), ReceiveMode::PeekLock, max);
                }
            }
            Op::Settle { pick, outcome } => self.settle(pick, outcome),
            Op::SettleStale { pick } => self.settle_stale(pick),
            Op::Renew { pick } => self.renew(pick),
            Op::RenewSession { receiver } => {
                let receiver = session_receiver(receiver);
                let held = self.sessions.iter().find(|(_, (holder, _))| *holder == receiver);
                let Some(session) = held.map(|(session, _)| *session) else { return };
                let input = Input::RenewSession {
                    entity: path("s"),
                    receiver: Some(receiver),
                    session: session.to_owned(),
                };
                let until = self.apply(input).unwrap().into_times().unwrap()[0];
                self.sessions.insert(session, (receiver, until));
            }
            Op::ReceiveDeferred { pick } => self.receive_deferred(pick),
            Op::Cancel { pick } => self.cancel(pick),
            Op::Close { receiver, session } => self.close(receiver, session),
            Op::Wait { milliseconds } => {
                self.now = self.now + Span(milliseconds);
                self.apply(Input::Tick).unwrap();
                self.pass();
            }
            Op::Restart => {
                self.apply(Input::Restart).unwrap();
                for queue in QUEUES {
                    self.free(queue, |receiver, _| receiver.is_some(), u32::from(queue != "s"));
                }
                self.sessions.clear();
                self.open_all();
            }
        }
        self.look();
    }

    /// The session that a receiver holds ends with it.
    fn let_go(&mut self, receiver: ReceiverId) {
        let held = self.sessions.iter().find(|(_, (holder, _))| *holder == receiver);
        let Some(session) = held.map(|(session, _)| *session) else { return };
        self.sessions.remove(session);
        self.free("s", |_, of| of == session, 0);
    }

    /// Held copies come back.
    fn free(&mut self, queue: &str, which: impl Fn(Option<ReceiverId>, &str) -> bool, failed: u32) {
        for (key, copy) in self.copies.iter_mut().filter(|((name, _), _)| *name == queue) {
            if let At::Held { receiver, deferred, token, .. } = copy.at
                && which(receiver, copy.session)
            {
                self.stale.push((key.clone(), token));
                come_back(copy, if deferred { At::Deferred } else { At::Waiting }, failed);
            }
        }
    }

    /// Time has passed.
    fn pass(&mut self) {
        let now = self.now;
        let ended: Vec<&str> = self
            .sessions
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(session, _)| *session)
            .collect();
        for session in ended {
            self.sessions.remove(session);
            self.free("s", |_, of| of == session, 1);
        }
        for (key, copy) in &mut self.copies {
            match copy.at {
                At::Held { until, deferred, token, .. } if key.0 != "s" && until <= now => {
                    self.stale.push((key.clone(), token));
                    come_back(copy, if deferred { At::Deferred } else { At::Waiting }, 1);
                }
                At::Scheduled { until, .. } if until <= now => copy.at = At::Waiting,
                _ => {}
            }
        }
        let due: Vec<String> =
            self.topic.iter().filter(|(_, (until, _))| *until <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.topic.remove(&id);
            self.fan_out(&id);
        }
    }

    /// All copies in a queue, by id; doubled ones are refused.
    fn peek(&self, queue: &str) -> BTreeMap<String, Delivery> {
        let mut found = BTreeMap::new();
        let mut last = i64::MIN;
        for delivery in self.model.peek(&path(queue), None, 0, 250).unwrap() {
            assert!(delivery.sequence_number > last);
            last = delivery.sequence_number;
            let id = delivery.message.properties.message_id.clone().unwrap();
            assert!(found.insert(id, delivery).is_none(), "doubled in {queue}");
        }
        found
    }

    /// Everything is where it should be.
    fn look(&self) {
        for queue in QUEUES {
            let alive = self.peek(queue);
            let dead = self.peek(&format!("{queue}/$deadletterqueue"));
            for ((name, id), copy) in self.copies.iter().filter(|((name, _), _)| *name == queue) {
                let (there, not_there) = if copy.at == At::Dead { (&dead, &alive) } else { (&alive, &dead) };
                assert!(there.contains_key(id) && !not_there.contains_key(id), "{id} of {name}: {copy:?}");
                let state = match copy.at {
                    At::Scheduled { .. } => MessageState::Scheduled,
                    At::Deferred | At::Held { deferred: true, .. } => MessageState::Deferred,
                    _ => MessageState::Active,
                };
                assert_eq!((there[id].state, there[id].delivery_count), (state, copy.failed));
            }
            let known = |id: &String| self.copies.contains_key(&(queue, id.clone()));
            assert!(alive.keys().chain(dead.keys()).all(known), "{queue} has what is gone");
        }
        assert!(self.peek("t").keys().eq(self.topic.keys()));
        assert!(self.peek("t/subscriptions/b").is_empty());
    }
}

fn come_back(copy: &mut Copy, at: At, failed: u32) {
    copy.failed += failed;
    copy.at = if failed > 0 && copy.failed >= DELIVERIES { At::Dead } else { at };
}

#[test]
fn the_oracle_notices_what_is_wrong() {
    let broken = std::panic::catch_unwind(|| {
        let mut oracle = Oracle::new();
        oracle.step(Op::Send { target: 0, count: 1, session: 0, delay: 0 });
        oracle.model.apply(
            oracle.now,
            Input::Receive {
                entity: path("q"),
                receiver: None,
                session: None,
                mode: ReceiveMode::ReceiveAndDelete,
                max: 1,
            },
        );
        oracle.look();
    });
    assert!(broken.is_err());
}
