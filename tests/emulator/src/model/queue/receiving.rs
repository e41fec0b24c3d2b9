//! Receiving, peeking, and the locks of sessions.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::container::{Container, Lock, Place};
use super::super::sessions::{Holder, Sessions};
use super::super::turn::Turn;
use super::Queue;
use crate::model::{
    Condition, Delivery, Fault, ReceiveMode, ReceiverId, SessionGrant, SessionWish, Status, SubQueue, Time,
};

/// Characters of a session id.
const LONGEST_ID: usize = 128;
/// Bytes of a session's state.
const LARGEST_STATE: usize = 256 * 1024;
/// Messages of one peek.
pub(in crate::model) const MOST_PEEKED: u32 = 250;

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Caller<'a> {
    pub(in crate::model) sub: SubQueue,
    pub(in crate::model) receiver: Option<ReceiverId>,
    pub(in crate::model) session: Option<&'a str>,
}

impl Queue {
    /// Whether one may receive here at all, with or without a session.
    pub(in crate::model) fn check_receiver(&self, sub: SubQueue, session: bool) -> Result<(), Fault> {
        let path = self.path.with(sub);
        if matches!(self.policy.status, Status::Disabled | Status::ReceiveDisabled) {
            return Err(Fault::new(
                Condition::EntityDisabled,
                format!("Messaging entity '{path}' is currently disabled."),
            ));
        }
        if sub == SubQueue::Main && self.policy.forward_to.is_some() {
            return Err(Fault::not_allowed(format!(
                "Cannot create a message receiver on an entity with auto-forwarding enabled: '{path}'."
            )));
        }
        match (self.container(sub).sessions().is_some(), session) {
            (true, false) => Err(Fault::not_allowed(format!(
                "It is not possible for an entity that requires sessions to create a non-sessionful message \
                 receiver: '{path}'."
            ))),
            (false, true) => Err(Fault::not_allowed(format!(
                "A sessionful message receiver cannot be created on an entity that does not require sessions: \
                 '{path}'."
            ))),
            _ => Ok(()),
        }
    }

    /// The lock of the session that the caller names must be the caller's, where the entity has sessions.
    fn check_caller(&self, caller: Caller<'_>) -> Result<(), Fault> {
        self.check_receiver(caller.sub, caller.session.is_some())?;
        match (self.container(caller.sub).sessions(), caller.session) {
            (Some(sessions), Some(session)) => holder(sessions, caller.receiver, session).map(drop),
            _ => Ok(()),
        }
    }

    pub(in crate::model) fn receive(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        mode: ReceiveMode,
        max: u32,
    ) -> Result<Vec<Delivery>, Fault> {
        self.check_caller(caller)?;
        let there = self.container(caller.sub).ready_count();
        let mut deliveries = Vec::with_capacity(there.min(max as usize));
        while deliveries.len() < max as usize {
            let Some(number) = self.container(caller.sub).first_ready(caller.session) else {
                break;
            };
            deliveries.extend(self.hand_over(turn, caller, mode, number));
        }
        if !deliveries.is_empty() {
            self.touch(turn);
        }
        Ok(deliveries)
    }

    pub(in crate::model) fn receive_deferred(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        mode: ReceiveMode,
        numbers: &[i64],
    ) -> Result<Vec<Delivery>, Fault> {
        self.check_caller(caller)?;
        let container = self.container(caller.sub);
        let mut asked = BTreeSet::new();
        for number in numbers {
            let free = container.get(*number).is_some_and(|stored| {
                let same_session = container.sessions().is_none() || stored.session() == caller.session;
                stored.place == Place::Deferred && stored.lock.is_none() && same_session
            });
            if !free || !asked.insert(number) {
                return Err(Fault::new(
                    Condition::MessageNotFound,
                    format!(
                        "There is no deferred message with the sequence number {number} that could be locked."
                    ),
                ));
            }
        }
        let deliveries =
            numbers.iter().filter_map(|number| self.hand_over(turn, caller, mode, *number)).collect();
        self.touch(turn);
        Ok(deliveries)
    }

    fn hand_over(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        mode: ReceiveMode,
        number: i64,
    ) -> Option<Delivery> {
        let lock = Lock {
            token: turn.token(),
            until: turn.now + self.policy.lock_duration,
            receiver: caller.receiver,
        };
        let container = self.container_mut(caller.sub);
        match mode {
            ReceiveMode::PeekLock => container.lock(number, lock),
            ReceiveMode::ReceiveAndDelete => {
                let stored = container.remove(number)?;
                Some(container.show(number, &stored))
            }
        }
    }

    pub(in crate::model) fn peek(
        &self,
        sub: SubQueue,
        session: Option<&str>,
        from: i64,
        max: u32,
    ) -> Vec<Delivery> {
        let container = self.container(sub);
        let mut deliveries: Vec<Delivery> = container
            .from(from)
            .filter(|(_, stored)| session.is_none() || stored.session() == session)
            .take(max.min(MOST_PEEKED) as usize)
            .map(|(number, stored)| container.show(number, stored))
            .collect();
        // Seeing a lock isn't holding it.
        deliveries.iter_mut().for_each(|delivery| delivery.lock = None);
        deliveries
    }

    /// Removes messages that nobody holds.
    pub(in crate::model) fn delete_messages(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        max: u32,
        before: Time,
    ) -> Result<u32, Fault> {
        self.check_caller(caller)?;
        let container = self.container_mut(caller.sub);
        let mut deleted = 0;
        for number in container.ready(caller.session) {
            if deleted == max {
                break;
            }
            if container.get(number).is_some_and(|stored| stored.enqueued < before) {
                container.remove(number);
                deleted += 1;
            }
        }
        if deleted > 0 {
            self.touch(turn);
        }
        Ok(deleted)
    }

    /// Messages of a receiver that is gone come back.
    pub(in crate::model) fn receiver_gone(&mut self, turn: &mut Turn, caller: Caller<'_>) {
        self.open = self.open.saturating_sub(1);
        if let Some(session) = caller.session {
            let holder = self.main.sessions().and_then(|sessions| sessions.holder(session));
            // It may have lost the session, and another have it now.
            if holder.map(|holder| holder.receiver) == caller.receiver {
                self.free_session(turn, session, false);
            }
        } else if let Some(receiver) = caller.receiver {
            for number in self.container(caller.sub).held_by(receiver) {
                self.come_back(turn, caller.sub, number, true);
            }
        }
        self.touch(turn);
    }

    pub(in crate::model) fn accept_session(
        &mut self,
        turn: &mut Turn,
        receiver: ReceiverId,
        wish: &SessionWish,
    ) -> Result<SessionGrant, Fault> {
        self.check_receiver(SubQueue::Main, true)?;
        let until = turn.now + self.policy.lock_duration;
        let sessions = sessions_of(&mut self.main)?;
        let session_id = match wish {
            SessionWish::Named(id) => {
                if id.chars().count() > LONGEST_ID {
                    return Err(Fault::argument(format!(
                        "A session id has at most {LONGEST_ID} characters."
                    )));
                }
                if sessions.holder(id).is_some() {
                    let text = format!("The requested session '{id}' cannot be accepted. It may be locked.");
                    return Err(Fault::new(Condition::SessionCannotBeLocked, text));
                }
                id.clone()
            }
            SessionWish::Next => sessions.next().map(str::to_owned).ok_or_else(|| {
                Fault::new(Condition::Timeout, "No unlocked session with messages was there in time.")
            })?,
        };
        sessions.change(&session_id, |session| session.holder = Some(Holder { receiver, until }));
        self.open += 1;
        self.touch(turn);
        Ok(SessionGrant { session_id, locked_until: until })
    }

    pub(in crate::model) fn renew_session(
        &mut self,
        turn: &mut Turn,
        receiver: Option<ReceiverId>,
        session: &str,
    ) -> Result<Time, Fault> {
        let until = turn.now + self.policy.lock_duration;
        let sessions = sessions_of(&mut self.main)?;
        let holder = holder(sessions, receiver, session)?;
        sessions.change(session, |session| session.holder = Some(Holder { until, ..holder }));
        self.touch(turn);
        Ok(until)
    }

    pub(in crate::model) fn set_session_state(
        &mut self,
        turn: &mut Turn,
        receiver: Option<ReceiverId>,
        session: &str,
        state: Option<Bytes>,
    ) -> Result<(), Fault> {
        if state.as_ref().is_some_and(|state| state.len() > LARGEST_STATE) {
            let text = format!("A session's state has at most {LARGEST_STATE} bytes.");
            return Err(Fault::new(Condition::MessageSizeExceeded, text));
        }
        let more = state.as_ref().map_or(0, |state| state.len() as u64);
        self.check_room(more)?;
        let sessions = sessions_of(&mut self.main)?;
        holder(sessions, receiver, session)?;
        sessions.change(session, |session| {
            session.state = state;
            session.state_set = turn.now;
        });
        self.touch(turn);
        Ok(())
    }

    pub(in crate::model) fn session_state(
        &self,
        receiver: Option<ReceiverId>,
        session: &str,
    ) -> Result<Option<Bytes>, Fault> {
        self.check_receiver(SubQueue::Main, true)?;
        let Some(sessions) = self.main.sessions() else {
            return Ok(None);
        };
        holder(sessions, receiver, session)?;
        Ok(sessions.get(session).and_then(|session| session.state.clone()))
    }

    pub(in crate::model) fn list_sessions(
        &self,
        since: Option<Time>,
        skip: u32,
        top: u32,
    ) -> Result<Vec<String>, Fault> {
        self.check_receiver(SubQueue::Main, true)?;
        Ok(self
            .main
            .sessions()
            .map(|sessions| sessions.list(since, skip as usize, top as usize))
            .unwrap_or_default())
    }

    /// The session's lock ends: its messages come back, after a failed delivery or without one.
    pub(super) fn free_session(&mut self, turn: &mut Turn, id: &str, failed: bool) {
        let Some(sessions) = self.main.sessions_mut() else {
            return;
        };
        let locked: Vec<i64> =
            sessions.get(id).map(|session| session.locked.iter().copied().collect()).unwrap_or_default();
        // The messages first: what comes back to a held session offers it to nobody.
        for number in locked {
            self.come_back(turn, SubQueue::Main, number, failed);
        }
        if let Some(sessions) = self.main.sessions_mut() {
            sessions.change(id, |session| session.holder = None);
        }
        turn.mark(&self.path);
        turn.wake(&self.path);
    }
}

fn sessions_of(container: &mut Container) -> Result<&mut Sessions, Fault> {
    container.sessions_mut().ok_or_else(|| Fault::not_allowed("The entity does not require sessions."))
}

/// The session's lock, when the caller holds it; a caller without a name stands for whoever does.
pub(super) fn holder(
    sessions: &Sessions,
    receiver: Option<ReceiverId>,
    session: &str,
) -> Result<Holder, Fault> {
    sessions
        .holder(session)
        .filter(|holder| receiver.is_none_or(|receiver| receiver == holder.receiver))
        .ok_or_else(|| Fault::session_lock_lost(session))
}
