//! What a step does, to the model and to the book.

use servicebus_emulator::model::{
    Delivery, Input, Message, Outcome, Output, ReceiveMode, ReceiverId, SessionWish, Span, Value,
};

use super::{At, Copy, Key, Oracle, PLAIN, SESSIONS, come_back, plain_receiver, session_receiver};
use crate::world::{LOCK, abandon, dead_letter, defer, in_session, path};

impl Oracle {
    pub(super) fn send(&mut self, target: usize, count: usize, session: &'static str, delay: u64) {
        let target = ["q", "t", "s"][target];
        // Few enough for one peek to show them all.
        if self.sent > 150 {
            return;
        }
        let at = self.now + Span(delay);
        let ids: Vec<u64> = (0..count as u64).map(|index| self.sent + index).collect();
        let message = |number: &u64| Message {
            application: [("number".to_owned(), Value::ULong(*number))].into(),
            scheduled_enqueue_time: (delay > 0).then_some(at),
            ..in_session(&number.to_string(), session)
        };
        let input = Input::Send { entity: path(target), messages: ids.iter().map(message).collect() };
        let numbers = self.apply(input).unwrap().into_sequence_numbers().unwrap();
        self.sent += count as u64;
        for (id, number) in ids.into_iter().zip(numbers) {
            let highest = self.highest.entry(target).or_default();
            assert!(number > *highest, "sequence numbers increase");
            *highest = number;
            if target == "t" && delay > 0 {
                self.topic.insert(id.to_string(), (at, number));
            } else if target == "t" {
                self.fan_out(&id.to_string());
            } else {
                let place = if delay > 0 { At::Scheduled { until: at, number } } else { At::Waiting };
                self.add(target, id.to_string(), place, session);
            }
        }
    }

    pub(super) fn fan_out(&mut self, id: &str) {
        // The oracle needn't know the sessions of messages in queues without sessions.
        self.add(PLAIN[1], id.to_owned(), At::Waiting, "");
        if id.parse::<u64>().unwrap() % 2 == 1 {
            self.add("q", id.to_owned(), At::Waiting, "");
        }
    }

    pub(super) fn add(&mut self, queue: &'static str, id: String, at: At, session: &'static str) {
        let copy = Copy { at, session, failed: 0 };
        assert!(self.copies.insert((queue, id), copy).is_none());
    }

    pub(super) fn receive(
        &mut self,
        queue: &'static str,
        receiver: Option<ReceiverId>,
        session: Option<&str>,
        mode: ReceiveMode,
        max: u32,
    ) {
        let mut waiting: Vec<i64> = self
            .peek(queue)
            .iter()
            .filter(|(id, _)| {
                let copy = &self.copies[&(queue, (*id).clone())];
                copy.at == At::Waiting && session.is_none_or(|session| session == copy.session)
            })
            .map(|(_, delivery)| delivery.sequence_number)
            .collect();
        waiting.sort_unstable();
        waiting.truncate(max as usize);
        let session = session.map(str::to_owned);
        let input = Input::Receive { entity: path(queue), receiver, session, mode, max };
        let deliveries = self.apply(input).unwrap().into_deliveries().unwrap();
        let numbers: Vec<i64> = deliveries.iter().map(|delivery| delivery.sequence_number).collect();
        assert_eq!(numbers, waiting, "the first that wait, in order");
        for delivery in deliveries {
            self.received(queue, receiver, &delivery, mode, false);
        }
    }

    pub(super) fn received(
        &mut self,
        queue: &'static str,
        receiver: Option<ReceiverId>,
        delivery: &Delivery,
        mode: ReceiveMode,
        deferred: bool,
    ) {
        let key = (queue, delivery.message.properties.message_id.clone().unwrap());
        let copy = self.copies.get_mut(&key).unwrap();
        let expected = if deferred { At::Deferred } else { At::Waiting };
        assert_eq!((&copy.at, copy.failed), (&expected, delivery.delivery_count), "held by one at a time");
        if mode == ReceiveMode::ReceiveAndDelete {
            self.copies.remove(&key);
            return;
        }
        let (token, until) = delivery.lock.unwrap();
        assert!(self.tokens.insert(token), "a token is never used again");
        copy.at = At::Held { token, until, receiver, deferred };
    }

    pub(super) fn accept(&mut self, receiver: ReceiverId, session: Option<usize>) {
        // One that lost its session is still attached until it closes.
        self.apply(Input::CloseReceiver { receiver }).unwrap();
        self.let_go(receiver);
        let wish =
            session.map_or(SessionWish::Next, |session| SessionWish::Named(SESSIONS[session].to_owned()));
        let free = session.is_none_or(|session| !self.sessions.contains_key(SESSIONS[session]));
        let input = Input::AcceptSession { entity: path("s"), receiver, wish };
        match self.apply(input) {
            Ok(Output::Session(grant)) => {
                assert!(free);
                let session = *SESSIONS.iter().find(|session| **session == grant.session_id).unwrap();
                let before = self.sessions.insert(session, (receiver, grant.locked_until));
                assert_eq!(before, None, "a session has one holder");
                assert_eq!(grant.locked_until, self.now + Span(LOCK));
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                let waiting =
                    |copy: &Copy| copy.at == At::Waiting && !self.sessions.contains_key(copy.session);
                let next = self.copies.iter().any(|((queue, _), copy)| *queue == "s" && waiting(copy));
                assert!(if session.is_some() { !free } else { !next }, "refused without a reason");
            }
        }
    }

    pub(super) fn held(&self, pick: usize) -> Option<(Key, Copy)> {
        let held: Vec<_> =
            self.copies.iter().filter(|(_, copy)| matches!(copy.at, At::Held { .. })).collect();
        let (key, copy) = held.get(pick.checked_rem(held.len())?)?;
        Some(((*key).clone(), (*copy).clone()))
    }

    pub(super) fn settle(&mut self, pick: usize, outcome: usize) {
        let Some((key, copy)) = self.held(pick) else { return };
        let At::Held { token, receiver, deferred, .. } = copy.at else { return };
        let session = (key.0 == "s").then(|| copy.session.to_owned());
        let release = Outcome::Release;
        let outcome =
            [Outcome::Complete, abandon(), defer(), dead_letter("r", "d"), release][outcome].clone();
        let input = Input::Settle {
            entity: path(key.0),
            receiver,
            session,
            tokens: vec![token],
            outcome: outcome.clone(),
        };
        assert_eq!(self.apply(input).unwrap().into_settled().unwrap(), [Ok(())]);
        self.stale.push((key.clone(), token));
        let Some(copy) = self.copies.get_mut(&key) else { return };
        let back = if deferred { At::Deferred } else { At::Waiting };
        match outcome {
            Outcome::Complete => drop(self.copies.remove(&key)),
            Outcome::Abandon { .. } => come_back(copy, back, 1),
            Outcome::Release => come_back(copy, back, 0),
            Outcome::Defer { .. } => copy.at = At::Deferred,
            Outcome::DeadLetter { .. } => copy.at = At::Dead,
        }
    }

    pub(super) fn settle_stale(&mut self, pick: usize) {
        let Some(index) = pick.checked_rem(self.stale.len()) else { return };
        let ((queue, _), token) = self.stale[index].clone();
        let (receiver, session, tokens) = (None, None, vec![token]);
        let input =
            Input::Settle { entity: path(queue), receiver, session, tokens, outcome: Outcome::Complete };
        let settled = self.apply(input).unwrap().into_settled().unwrap().remove(0);
        assert!(settled.is_err(), "a lock that is gone settles nothing");
    }

    pub(super) fn renew(&mut self, pick: usize) {
        let Some((key, copy)) = self.held(pick) else { return };
        let At::Held { token, receiver, deferred, .. } = copy.at else { return };
        let input = Input::RenewLocks { entity: path(key.0), session: None, tokens: vec![token] };
        match self.apply(input) {
            Ok(output) => {
                let until = output.into_times().unwrap()[0];
                assert_eq!(until, self.now + Span(LOCK));
                self.copies.get_mut(&key).unwrap().at = At::Held { token, until, receiver, deferred };
            }
            Err(_) => assert_eq!(key.0, "s"),
        }
    }

    pub(super) fn receive_deferred(&mut self, pick: usize) {
        let deferred: Vec<Key> = self
            .copies
            .iter()
            .filter(|(_, copy)| copy.at == At::Deferred)
            .map(|(key, _)| key.clone())
            .collect();
        let Some(index) = pick.checked_rem(deferred.len()) else { return };
        let (queue, id) = &deferred[index];
        let session = (*queue == "s").then(|| self.copies[&deferred[index]].session);
        let receiver = session.and_then(|session| self.sessions.get(session)).map(|(receiver, _)| *receiver);
        let sequence_numbers = vec![self.peek(queue)[id].sequence_number];
        let (mode, session) = (ReceiveMode::PeekLock, session.map(str::to_owned));
        let input = Input::ReceiveDeferred { entity: path(queue), receiver, session, mode, sequence_numbers };
        match self.apply(input) {
            Ok(output) => {
                let delivery = output.into_deliveries().unwrap().remove(0);
                self.received(queue, receiver, &delivery, mode, true);
            }
            Err(_) => assert!(*queue == "s" && receiver.is_none()),
        }
    }

    pub(super) fn cancel(&mut self, pick: usize) {
        let scheduled: Vec<(Key, i64)> = self
            .copies
            .iter()
            .filter_map(|(key, copy)| match copy.at {
                At::Scheduled { number, .. } => Some((key.clone(), number)),
                _ => None,
            })
            .collect();
        let Some(index) = pick.checked_rem(scheduled.len()) else { return };
        let (key, number) = &scheduled[index];
        self.apply(Input::CancelScheduled { entity: path(key.0), sequence_numbers: vec![*number] }).unwrap();
        self.copies.remove(key);
    }

    pub(super) fn close(&mut self, receiver: usize, session: bool) {
        if session {
            let receiver = session_receiver(receiver);
            self.apply(Input::CloseReceiver { receiver }).unwrap();
            self.let_go(receiver);
            return;
        }
        for (queue, name) in PLAIN.into_iter().enumerate() {
            let receiver = plain_receiver(queue, receiver);
            self.apply(Input::CloseReceiver { receiver }).unwrap();
            self.free(name, |holder, _| holder == Some(receiver), 1);
            self.apply(Input::OpenReceiver { entity: path(name), receiver }).unwrap();
        }
    }
}
