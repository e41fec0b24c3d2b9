//! What happens without a frame: inputs become durable, something comes to be received, sessions are granted.

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::connection::Connection;
use super::delivery::Payload;
use super::error::Error;
use super::link::{LinkId, Node, Ready};
use super::performative::Role;
use super::session::Outcome;
use crate::host::Submitted;
use crate::model::{Fault, Output, SessionGrant};

/// What an input was for.
#[derive(Debug)]
pub(super) enum What {
    /// A delivery from the client.
    Sent { channel: u16, session: u64, delivery: u32, settled: bool },
    /// Deliveries that the client has settled, and the answer where they went well.
    Settled { channel: u16, session: u64, deliveries: Vec<u32>, outcome: Outcome, answer: bool },
    /// Messages for a link.
    Fetched(LinkId),
}

/// What a connection waits for besides.
#[derive(Debug)]
pub(super) enum Event {
    /// An entity's receivers should look again.
    Changed { link: LinkId, changes: watch::Receiver<u64>, cancel: oneshot::Receiver<()> },
    /// A session, or none.
    Granted { link: LinkId, result: Result<SessionGrant, Fault>, cancel: oneshot::Receiver<()> },
    /// An answer, for whoever waits for it in that session.
    Answered { channel: u16, session: u64, node: Node, reply_to: Option<String>, answer: Bytes },
    /// The link that this was for is gone.
    Cancelled,
}

impl Connection {
    /// An input whose result is told once it is durable, after those of all inputs before it.
    pub(super) fn submitted(&mut self, what: What, submitted: Submitted) {
        self.waiting.push_back((what, submitted));
    }

    /// Takes the results that are there already.
    pub(super) fn finish_ready(&mut self) {
        while let Some((what, submitted)) = self.waiting.pop_front() {
            match submitted.try_durable() {
                Ok(result) => self.finished(what, result),
                Err(submitted) => return self.waiting.push_front((what, submitted)),
            }
        }
    }

    pub(super) fn finished(&mut self, what: What, result: Result<Output, Fault>) {
        match what {
            What::Sent { channel, session, delivery, settled } => {
                if settled {
                    return;
                }
                let Some(session) =
                    self.sessions.get_mut(&channel).filter(|it| it.id == session && !it.ended)
                else {
                    return;
                };
                let outcome = match result {
                    Ok(_) => Outcome::Accepted,
                    Err(fault) => Outcome::Failed(fault.into()),
                };
                session.settle(&mut self.out, Role::Receiver, delivery, &outcome);
            }
            What::Settled { channel, session, deliveries, outcome, answer } => {
                let Some(session) =
                    self.sessions.get_mut(&channel).filter(|it| it.id == session && !it.ended)
                else {
                    return;
                };
                if !answer {
                    return;
                }
                match result.and_then(Output::into_settled) {
                    Ok(results) => {
                        for (delivery, result) in deliveries.into_iter().zip(results) {
                            let failed = result.err().map(|fault| Outcome::Failed(fault.into()));
                            let outcome = failed.as_ref().unwrap_or(&outcome);
                            session.settle(&mut self.out, Role::Sender, delivery, outcome);
                        }
                    }
                    Err(fault) => {
                        let failed = Outcome::Failed(fault.into());
                        for delivery in deliveries {
                            session.settle(&mut self.out, Role::Sender, delivery, &failed);
                        }
                    }
                }
            }
            What::Fetched(link) => self.fetched(link, result.and_then(Output::into_deliveries)),
        }
    }

    pub(super) fn happened(&mut self, event: Event) {
        match event {
            Event::Changed { link, changes, cancel } => {
                let Some(outlet) = self.outlets.get_mut(&link) else { return };
                outlet.look = true;
                if outlet.credit > 0 {
                    self.heat(link);
                } else {
                    self.check_receiver(link);
                }
                self.watch(link, changes, cancel);
            }
            Event::Granted { link, result, cancel } => self.granted(link, result, cancel),
            Event::Answered { channel, session, node, reply_to, answer } => {
                self.asked = self.asked.saturating_sub(1);
                self.answer(channel, session, &node, reply_to.as_deref(), answer);
            }
            Event::Cancelled => {}
        }
    }

    /// Waits until receivers of the link's entity should look again.
    pub(super) fn watch(
        &mut self,
        link: LinkId,
        mut changes: watch::Receiver<u64>,
        mut cancel: oneshot::Receiver<()>,
    ) {
        self.events.push(Box::pin(async move {
            let changed = tokio::select! {
                biased;
                _ = &mut cancel => false,
                changed = changes.changed() => changed.is_ok(),
            };
            if changed { Event::Changed { link, changes, cancel } } else { Event::Cancelled }
        }));
    }

    /// A request's answer goes to the link that it names, or to the one that leads to the same node.
    pub(super) fn answer(
        &mut self,
        channel: u16,
        session: u64,
        node: &Node,
        reply_to: Option<&str>,
        answer: Bytes,
    ) {
        let leads = self.outlets.iter().filter(|(_, outlet)| outlet.place.node == *node && outlet.attached);
        // What is named counts most, then what is in the request's own session, then what is youngest.
        let rank = |(id, outlet): &(&LinkId, &super::link::Outlet)| {
            let named = reply_to.is_some() && outlet.reply_address.as_deref() == reply_to;
            let place = &outlet.place;
            (named, place.channel == channel && place.session == session, **id)
        };
        let Some(link) = leads.max_by_key(rank).map(|(id, _)| *id) else { return };
        if let Some(outlet) = self.outlets.get_mut(&link) {
            let payload = Payload::whole(answer);
            self.answers += payload.len();
            outlet.place.used = Instant::now();
            outlet.ready.push_back(Ready::Answer(payload));
            self.heat(link);
        }
    }

    /// Whether the link may still be where it is; it is detached where not.
    pub(super) fn check_receiver(&mut self, link: LinkId) {
        let Some(outlet) = self.outlets.get(&link) else { return };
        let (Node::Entity(entity), Some(claim), true) = (&outlet.place.node, &outlet.claim, outlet.attached)
        else {
            return;
        };
        let checked = self.shared.host.read(|model, _| match &outlet.session_id {
            Some(session) => model.session_state(entity, Some(claim.receiver), session).map(drop),
            None => model.check_receiver(entity, false),
        });
        if let Err(fault) = checked {
            self.detach(link, &Error::from(fault));
        }
    }
}
