//! The plan against a table and a broker that both are lists here: a small leader drives it, as the real one does.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: [Option<&str>; 4] = [None, Some("s"), Some("t"), Some("u")];

/// What a row of the table is made of: topic, session, bytes, whether it was delayed, whether it can be sent.
type Row = (usize, usize, usize, bool, bool);

#[derive(Clone, Debug)]
enum Step {
    /// Rows are committed.
    Publish(Vec<Row>),
    /// A page of so many.
    Read(usize),
    /// Another batch leaves.
    Start,
    /// One under way is accepted as far as this, and fails from there: by the topic or by the broker.
    End { which: prop::sample::Index, accepted: prop::sample::Index, fails: Option<bool> },
    /// Time goes by.
    Wait(u64),
}

fn row() -> impl Strategy<Value = Row> {
    let sendable = prop::bool::weighted(0.95);
    (0..TOPICS.len(), 0..SESSIONS.len(), 0..3_000_usize, prop::bool::weighted(0.1), sendable)
}

fn step() -> impl Strategy<Value = Step> {
    let end = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::option::of(any::<bool>()));
    prop_oneof![
        2 => prop::collection::vec(row(), 1..6).prop_map(Step::Publish),
        4 => (1..8_usize).prop_map(Step::Read),
        5 => Just(Step::Start),
        5 => end.prop_map(|(which, accepted, fails)| Step::End { which, accepted, fails }),
        1 => (1..40_u64).prop_map(Step::Wait),
    ]
}

struct Leader {
    plan: Plan,
    limits: BatchLimits,
    now: Instant,
    table: BTreeMap<i64, OutboxRow>,
    read_to: i64,
    under_way: Vec<Planned>,
    accepted: Vec<Envelope>,
    dead: HashSet<EventId>,
}

impl Leader {
    fn new(limits: BatchLimits) -> Self {
        let (plan, table) = (Plan::default(), BTreeMap::new());
        let (under_way, accepted) = (Vec::new(), Vec::new());
        Self {
            plan,
            limits,
            now: Instant::now(),
            table,
            read_to: 0,
            under_way,
            accepted,
            dead: HashSet::new(),
        }
    }

    fn publish(&mut self, rows: Vec<Row>) {
        for (topic, session, bytes, delayed, sendable) in rows {
            let seq = self.table.len() as i64 + self.accepted.len() as i64 + self.dead.len() as i64 + 1;
            let id = EventId::from_uuid(Uuid::from_u128(seq as u128));
            let mut envelope = Envelope::new(id, "e", "x".repeat(bytes));
            // The first is the relay's default.
            envelope.topic = (topic > 0).then(|| TOPICS[topic].to_owned());
            envelope.session_id = SESSIONS[session].map(str::to_owned);
            envelope.deliver_at = delayed.then_some(std::time::UNIX_EPOCH);
            self.table.insert(seq, OutboxRow::new(seq, envelope, !sendable));
        }
    }

    /// A page behind the watermark, without what is in memory; at the end it begins again.
    fn read(&mut self, limit: usize) -> bool {
        let known: HashSet<_> = self.plan.seqs().into_iter().collect();
        let behind = self.table.range(self.read_to + 1..).filter(|(seq, _)| !known.contains(seq));
        let page: Vec<_> = behind.take(limit).map(|(_, row)| row.clone()).collect();
        let full = page.len() == limit;
        self.read_to = page.last().filter(|_| full).map_or(0, |row| row.seq);
        for (id, reason) in self.plan.add(page, TOPICS[0], self.now) {
            assert_eq!(reason, "expired");
            self.table.retain(|_, row| row.envelope.id != id);
            self.dead.insert(id);
        }
        full
    }

    fn start(&mut self) -> bool {
        let room = self.plan.waiting.iter().map(|row| row.envelope.encoded_size()).sum::<usize>();
        assert_eq!(self.plan.waiting_bytes, room, "memory is accounted for");
        let free: Vec<_> = self.plan.waiting.iter().map(|row| row.envelope.clone()).collect();
        let busy: HashSet<_> = self.under_way.iter().flat_map(Planned::sessions).collect();
        let Some(batch) = self.plan.next_batch(self.limits) else {
            let waits =
                |event: &Envelope| event.session_id.as_ref().is_some_and(|session| busy.contains(session));
            assert!(free.iter().all(waits), "an event that may leave does (rule 5)");
            return false;
        };
        let size: usize = batch.events.iter().map(Envelope::encoded_size).sum();
        assert!(!batch.events.is_empty() && batch.events.len() <= self.limits.events);
        assert!(batch.events.len() == 1 || size <= self.limits.bytes, "{size} bytes");
        for event in &batch.events {
            assert_eq!(event.topic.as_ref(), Some(&batch.topic), "one topic");
            assert!(self.plan.held_until(&batch.topic, self.now).is_none(), "its topic is held");
            let session = event.session_id.as_ref();
            assert!(
                session.is_none_or(|session| !busy.contains(session)),
                "{session:?} is under way (rule 6)"
            );
            let again =
                self.under_way.iter().flat_map(|batch| &batch.events).any(|other| other.id == event.id);
            assert!(!again, "{} is under way", event.id);
        }
        self.under_way.push(batch);
        true
    }

    /// What `leader::settle` does.
    fn end(&mut self, batch: &Planned, accepted: usize, fails: Option<bool>) {
        let accepted = if fails.is_some() { accepted } else { batch.events.len() };
        let sessions = batch.sessions();
        let (sent, unsent) = batch.events.split_at(accepted);
        let unsent: Vec<_> = unsent.iter().map(|event| event.id).collect();
        self.plan.finished(&sessions, &unsent);
        for event in sent {
            self.table.retain(|_, row| row.envelope.id != event.id);
            self.accepted.push(event.clone());
        }
        let ids: Vec<_> = sent.iter().map(|event| event.id).collect();
        self.plan.forget(&ids);
        if let Some(by_topic) = fails {
            if by_topic {
                self.plan.hold(&batch.topic, self.now + Duration::from_millis(20));
            }
            self.plan.clear();
            self.read_to = 0;
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        if self.plan.release_holds(self.now) {
            self.read_to = 0;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(rows) => self.publish(rows),
            Step::Read(limit) => drop(self.read(limit)),
            Step::Start => drop(self.start()),
            Step::End { which, accepted, fails } if !self.under_way.is_empty() => {
                let batch = self.under_way.remove(which.index(self.under_way.len()));
                let accepted = accepted.index(batch.events.len() + 1).min(batch.events.len());
                // What was accepted as a whole has not failed.
                let fails = fails.filter(|_| accepted < batch.events.len());
                self.end(&batch, accepted, fails);
            }
            Step::End { .. } => {}
            Step::Wait(milliseconds) => self.wait(milliseconds),
        }
    }

    /// The broker is well from here on.
    fn drain(&mut self) {
        self.wait(1_000);
        let mut rounds = 0;
        while !self.table.is_empty() || !self.under_way.is_empty() {
            while self.read(5) {}
            while self.start() {}
            while let Some(batch) = self.under_way.pop() {
                self.end(&batch, 0, None);
            }
            rounds += 1;
            assert!(rounds < 1_000, "{} rows are never sent", self.table.len());
        }
    }
}

proptest! {
    #[test]
    fn every_event_leaves_once_and_no_session_overtakes_itself(
        limits in (300..8_000_usize, 1..8_usize), steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut leader = Leader::new(BatchLimits::new(limits.0, limits.1));
        for step in steps {
            leader.step(step);
        }
        leader.drain();
        let ids: HashSet<_> = leader.accepted.iter().map(|event| event.id).collect();
        prop_assert_eq!(ids.len(), leader.accepted.len(), "each once");
        prop_assert!(ids.is_disjoint(&leader.dead));
        for session in SESSIONS.into_iter().flatten() {
            // A delayed event takes its place when it is sent.
            let of_session = leader.accepted.iter().filter(|event| event.session_id.as_deref() == Some(session));
            let order: Vec<_> = of_session.filter(|event| event.deliver_at.is_none()).map(|event| event.id).collect();
            prop_assert!(order.is_sorted(), "{session}: {order:?}");
        }
    }
}
