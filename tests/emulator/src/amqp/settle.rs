//! What clients make of deliveries.

use super::connection::{Connection, Trouble};
use super::error::Error;
use super::events::What;
use super::link::{LinkId, Node};
use super::message;
use super::performative::{Disposition, Role, State};
use super::session::Outcome as Answer;
use super::value::Value;
use crate::model::{Condition, Fault, Input, LockToken, Modify, Outcome};

const REASON: &str = "DeadLetterReason";
const DESCRIPTION: &str = "DeadLetterErrorDescription";

impl Connection {
    pub(super) fn disposition(&mut self, channel: u16, disposition: &Disposition) -> Result<(), Trouble> {
        // What its sender says of a delivery that was accepted here is nothing new.
        if disposition.role == Role::Sender {
            return Ok(());
        }
        let state = State::read(&disposition.state);
        if state == State::Open && !disposition.settled {
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        let id = session.id;
        let taken = session.unsettled.take(disposition.first, disposition.last);
        if taken.is_empty() {
            if !disposition.settled {
                let lost = Fault::new(
                    Condition::MessageLockLost,
                    "The lock supplied is invalid: there is no such delivery on this session that is unsettled.",
                );
                let range = (disposition.first, disposition.last);
                session.disposition(&mut self.out, Role::Sender, range, &Answer::Failed(lost.into()));
            }
            return Ok(());
        }
        // Deliveries of several links may stand in one range.
        for part in taken.chunk_by(|(_, left, _), (_, right, _)| left == right) {
            let deliveries = part.iter().map(|(delivery, _, _)| *delivery).collect();
            let tokens = part.iter().map(|(_, _, token)| *token).collect();
            let Some((_, link, _)) = part.first() else { continue };
            self.settle(*link, (channel, id), (deliveries, tokens), &state, disposition);
        }
        Ok(())
    }

    fn settle(
        &mut self,
        link: LinkId,
        (channel, session): (u16, u64),
        (deliveries, tokens): (Vec<u32>, Vec<LockToken>),
        state: &State,
        disposition: &Disposition,
    ) {
        let Some(outlet) = self.outlets.get_mut(&link) else { return };
        outlet.place.used = tokio::time::Instant::now();
        let (Node::Entity(entity), Some(claim)) = (&outlet.place.node, &outlet.claim) else { return };
        let Some((outcome, answer)) = outcome(state, &disposition.state) else {
            let error = Error::new("amqp:not-implemented", "Transactions are not supported here.");
            self.detach(link, &error);
            return;
        };
        let input = Input::Settle {
            entity: entity.clone(),
            receiver: Some(claim.receiver),
            session: outlet.session_id.clone(),
            tokens,
            outcome,
        };
        let submitted = self.shared.host.submit(input);
        let what =
            What::Settled { channel, session, deliveries, outcome: answer, answer: !disposition.settled };
        self.submitted(what, submitted);
    }
}

/// What a client's state means, and how it is answered where that went well.
fn outcome(state: &State, said: &Value) -> Option<(Outcome, Answer)> {
    Some(match state {
        State::Accepted => (Outcome::Complete, Answer::Accepted),
        // Settled without a word: as if it had never come.
        State::Released | State::Open => (Outcome::Release, Answer::Released),
        State::Rejected { condition, description, info } => {
            let text = |name: &str| info.get(name).and_then(Value::text).map(str::to_owned);
            let reason = text(REASON).or_else(|| {
                // The one that says nothing but that it is this.
                condition.clone().filter(|condition| condition != "com.microsoft:dead-letter")
            });
            let mut modify = modify(info);
            modify.remove(REASON);
            modify.remove(DESCRIPTION);
            let description = text(DESCRIPTION).or_else(|| description.clone());
            (Outcome::DeadLetter { reason, description, modify }, Answer::Rejected)
        }
        State::Modified { undeliverable_here, annotations } => {
            let modify = modify(annotations);
            let outcome =
                if *undeliverable_here { Outcome::Defer { modify } } else { Outcome::Abandon { modify } };
            (outcome, Answer::Echo(said.clone()))
        }
        State::Unknown => return None,
    })
}

/// Application properties to change.
pub(super) fn modify(map: &Value) -> Modify {
    let entries = map.entries().unwrap_or_default().iter();
    entries.filter_map(|(key, value)| Some((key.text()?.to_owned(), message::simple(value)?))).collect()
}
