//! What becomes of locked messages.

use super::super::container::Place;
use super::super::turn::Turn;
use super::receiving::{Caller, holder};
use super::{Queue, Reason};
use crate::model::{Fault, LockToken, Modify, Outcome, SubQueue, Time};

/// Characters of a reason and of a description.
const LONGEST_REASON: usize = 4096;

impl Queue {
    /// The message that the caller holds by a token.
    fn held(&self, caller: Caller<'_>, token: LockToken) -> Result<i64, Fault> {
        let container = self.container(caller.sub);
        if let (Some(sessions), Some(session)) = (container.sessions(), caller.session) {
            holder(sessions, caller.receiver, session)?;
        }
        let (number, stored) = container.by_token(token).ok_or_else(Fault::message_lock_lost)?;
        let other = |lock: Option<_>| caller.receiver.is_some() && lock.is_some() && lock != caller.receiver;
        if other(stored.lock.and_then(|lock| lock.receiver)) {
            return Err(Fault::message_lock_lost());
        }
        if container.sessions().is_some() && caller.session.is_some() && stored.session() != caller.session {
            return Err(Fault::message_lock_lost());
        }
        Ok(number)
    }

    /// What would keep an outcome from every message.
    pub(in crate::model) fn check_outcome(&self, caller: Caller<'_>, outcome: &Outcome) -> Result<(), Fault> {
        let Outcome::DeadLetter { reason, description, .. } = outcome else {
            return Ok(());
        };
        if caller.sub != SubQueue::Main {
            return Err(Fault::not_allowed(format!(
                "A message of '{}' cannot be dead-lettered again.",
                self.path.with(caller.sub)
            )));
        }
        if [reason, description].into_iter().flatten().any(|text| text.chars().count() > LONGEST_REASON) {
            let text =
                format!("A dead-letter reason or description has at most {LONGEST_REASON} characters.");
            return Err(Fault::argument(text));
        }
        Ok(())
    }

    pub(in crate::model) fn settle(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        token: LockToken,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        let number = self.held(caller, token)?;
        self.touch(turn);
        match outcome {
            Outcome::Complete => {
                self.container_mut(caller.sub).remove(number);
            }
            Outcome::Abandon { modify } => {
                self.modify(caller.sub, number, modify);
                self.come_back(turn, caller.sub, number, true);
            }
            Outcome::Release => self.come_back(turn, caller.sub, number, false),
            Outcome::Defer { modify } => {
                self.modify(caller.sub, number, modify);
                self.container_mut(caller.sub).change(number, |stored| {
                    stored.place = Place::Deferred;
                    stored.lock = None;
                });
            }
            Outcome::DeadLetter { reason, description, modify } => {
                self.modify(caller.sub, number, modify);
                let reason = Reason { reason: reason.clone(), description: description.clone() };
                self.dead_letter(turn, number, &reason);
            }
        }
        Ok(())
    }

    fn modify(&mut self, sub: SubQueue, number: i64, modify: &Modify) {
        if modify.is_empty() {
            return;
        }
        self.container_mut(sub).change_message(number, |message| {
            for (name, value) in modify {
                message.set_application(name, Some(value.clone()));
            }
        });
    }

    /// A locked message is free again. A failed delivery counts, and the last one that may fail dead-letters.
    pub(super) fn come_back(&mut self, turn: &mut Turn, sub: SubQueue, number: i64, failed: bool) {
        let mut deliveries = 0;
        self.container_mut(sub).change(number, |stored| {
            stored.lock = None;
            stored.delivery_count += u32::from(failed);
            deliveries = stored.delivery_count;
        });
        turn.mark(&self.path);
        let most = self.policy.max_delivery_count;
        if sub == SubQueue::Main && failed && deliveries >= most {
            let text = format!("Message could not be consumed after {most} delivery attempts.");
            self.dead_letter(turn, number, &Reason::new("MaxDeliveryCountExceeded", text));
        } else {
            turn.wake(&self.path.with(sub));
        }
    }

    /// Locks begin anew, all or none.
    pub(in crate::model) fn renew_locks(
        &mut self,
        turn: &mut Turn,
        caller: Caller<'_>,
        tokens: &[LockToken],
    ) -> Result<Vec<Time>, Fault> {
        if self.container(caller.sub).sessions().is_some() {
            let text = "In a session the session's lock is renewed, not that of a message.";
            return Err(Fault::not_allowed(text));
        }
        let numbers: Vec<i64> =
            tokens.iter().map(|token| self.held(caller, *token)).collect::<Result<_, _>>()?;
        let until = turn.now + self.policy.lock_duration;
        for number in numbers {
            self.container_mut(caller.sub).change(number, |stored| {
                if let Some(lock) = &mut stored.lock {
                    lock.until = until;
                }
            });
        }
        self.touch(turn);
        Ok(vec![until; tokens.len()])
    }
}
