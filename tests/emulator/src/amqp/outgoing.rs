//! Deliveries to clients: as many as their credit, their session's window and the output have room for.

use bytes::BytesMut;
use tokio::time::Instant;

use super::connection::{Connection, Trouble};
use super::delivery::{self, For, Payload};
use super::encode::{self, Composite};
use super::events::What;
use super::frame::{self, Kind};
use super::link::{LinkId, Node, Outlet, Ready, Sending};
use super::performative::Flow;
use super::session::{Session, Slot};
use crate::model::{Delivery, Fault, Input, Outcome, ReceiveMode};

/// Messages that are fetched for a link at once.
const FETCH: u32 = 128;
/// Frames that a link may send before others have their turn.
const TURN: usize = 128;
/// What of a transfer isn't its payload, at most.
const TRANSFER: usize = 96;

/// Why a link's turn ended.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// The output is full.
    Full,
    /// Others are to have theirs.
    Over,
    /// Nothing more can be sent now.
    Idle,
}

impl Connection {
    /// A link has something to do.
    pub(super) fn heat(&mut self, link: LinkId) {
        if let Some(outlet) = self.outlets.get_mut(&link)
            && !outlet.hot
        {
            outlet.hot = true;
            self.hot.push_back(link);
        }
    }

    /// Does all that can be done without waiting, and writes what was gathered meanwhile.
    pub(super) fn settle_up(&mut self) {
        loop {
            if self.oldest.is_none() {
                self.finish_ready();
            }
            if self.out.len() >= self.shared.limits.output {
                break;
            }
            let Some(link) = self.hot.pop_front() else { break };
            if let Some(outlet) = self.outlets.get_mut(&link) {
                outlet.hot = false;
            }
            match self.turn(link) {
                Turn::Full | Turn::Over => self.heat(link),
                Turn::Idle => {}
            }
        }
        self.quench();
        for session in self.sessions.values_mut().filter(|session| !session.ended) {
            session.settle_up(&mut self.out);
        }
    }

    fn turn(&mut self, link: LinkId) -> Turn {
        let full = self.shared.limits.output;
        for _ in 0..TURN {
            let Some(outlet) = self.outlets.get_mut(&link).filter(|outlet| outlet.attached) else {
                return Turn::Idle;
            };
            let Some(session) = self.sessions.get_mut(&outlet.place.channel) else { return Turn::Idle };
            if self.out.len() >= full {
                return Turn::Full;
            }
            if outlet.sending.is_none() && (outlet.credit == 0 || outlet.ready.is_empty()) {
                break;
            }
            if session.remote_window == 0 {
                session.wait(link);
                return Turn::Idle;
            }
            if outlet.sending.is_none()
                && let Some(answered) = outlet.begin(session, link, &mut self.heads)
            {
                self.answers = self.answers.saturating_sub(answered);
            }
            outlet.send(session, &mut self.out, self.frame);
        }
        let Some(outlet) = self.outlets.get_mut(&link) else { return Turn::Idle };
        if outlet.sending.is_some() || !outlet.ready.is_empty() && outlet.credit > 0 {
            return Turn::Over;
        }
        self.fetch(link);
        self.drained(link);
        Turn::Idle
    }

    /// Asks for messages where there may be some and the client takes them.
    fn fetch(&mut self, link: LinkId) {
        let Some(outlet) = self.outlets.get_mut(&link) else { return };
        let (Node::Entity(entity), Some(claim)) = (&outlet.place.node, &outlet.claim) else { return };
        if !outlet.look || outlet.fetching || outlet.credit == 0 || !outlet.ready.is_empty() {
            return;
        }
        outlet.fetching = true;
        let input = Input::Receive {
            entity: entity.clone(),
            receiver: Some(claim.receiver),
            session: outlet.session_id.clone(),
            mode: outlet.mode,
            max: outlet.credit.min(FETCH),
        };
        let submitted = self.shared.host.submit(input);
        self.submitted(What::Fetched(link), submitted);
    }

    pub(super) fn fetched(&mut self, link: LinkId, result: Result<Vec<Delivery>, Fault>) {
        let Some(outlet) = self.outlets.get_mut(&link) else { return };
        outlet.fetching = false;
        match result {
            Ok(deliveries) => {
                if deliveries.is_empty() {
                    outlet.look = false;
                } else {
                    outlet.place.used = Instant::now();
                }
                outlet.ready.extend(deliveries.into_iter().map(Ready::Message));
                // Its credit may have gone meanwhile.
                self.give_back(link);
                self.heat(link);
            }
            Err(fault) => self.detach(link, &fault.into()),
        }
    }

    /// Answers a drain once there is nothing more to send.
    fn drained(&mut self, link: LinkId) {
        let Some(outlet) = self.outlets.get_mut(&link) else { return };
        if !outlet.drain || outlet.fetching || outlet.look && outlet.credit > 0 {
            return;
        }
        outlet.drain = false;
        outlet.delivery_count = outlet.delivery_count.wrapping_add(outlet.credit);
        outlet.credit = 0;
        let flow = (outlet.place.handle, outlet.delivery_count, 0, true);
        if let Some(session) = self.sessions.get_mut(&outlet.place.channel) {
            session.flow(&mut self.out, Some(flow));
        }
    }

    pub(super) fn flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Trouble> {
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        session.heard(flow);
        if session.remote_window > 0 {
            for link in std::mem::take(&mut session.stuck) {
                self.heat(link);
            }
        }
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        let Some(handle) = flow.handle else {
            if flow.echo {
                session.flow(&mut self.out, None);
            }
            return Ok(());
        };
        match session.slots.get(&handle).copied() {
            Some(Slot::Out(link)) => {
                let Some(outlet) = self.outlets.get_mut(&link) else { return Ok(()) };
                outlet.place.used = Instant::now();
                let ahead = outlet.delivery_count.wrapping_sub(flow.delivery_count.unwrap_or_default());
                let credit = flow.link_credit.unwrap_or_default();
                // What is on its way uses credit that the client still counts.
                outlet.credit = credit.saturating_sub(ahead);
                outlet.drain = flow.drain;
                if flow.echo && !flow.drain {
                    let flow = (handle, outlet.delivery_count, outlet.credit, false);
                    session.flow(&mut self.out, Some(flow));
                }
                self.give_back(link);
                self.heat(link);
            }
            Some(Slot::In(link)) if flow.echo => {
                if let Some(inlet) = self.inlets.get_mut(&link) {
                    let flow = (handle, inlet.delivery_count, inlet.credit, false);
                    session.flow(&mut self.out, Some(flow));
                }
            }
            // A client may speak of a link that it doesn't know to be gone.
            _ => {}
        }
        Ok(())
    }

    /// Messages that were fetched for credit that is no more can be somebody else's.
    fn give_back(&mut self, link: LinkId) {
        let Some(outlet) = self.outlets.get_mut(&link) else { return };
        // Those that are gone for good stay until there is credit again.
        if outlet.credit == 0 && outlet.mode == ReceiveMode::PeekLock && outlet.claim.is_some() {
            let tokens = outlet.take_unsent();
            if !tokens.is_empty() {
                outlet.look = true;
            }
            self.release(link, tokens);
        }
    }

    /// Gives messages back that the client never saw.
    pub(super) fn release(&self, link: LinkId, tokens: Vec<crate::model::LockToken>) {
        let Some(outlet) = self.outlets.get(&link).filter(|_| !tokens.is_empty()) else { return };
        let (Node::Entity(entity), Some(claim)) = (&outlet.place.node, &outlet.claim) else { return };
        drop(self.shared.host.submit(Input::Settle {
            entity: entity.clone(),
            receiver: Some(claim.receiver),
            session: outlet.session_id.clone(),
            tokens,
            outcome: Outcome::Release,
        }));
    }

    /// The connection is over.
    pub(super) fn release_all(&mut self) {
        let links: Vec<LinkId> = self.outlets.keys().copied().collect();
        for link in links {
            let unsent = self.outlets.get_mut(&link).map(Outlet::take_unsent);
            self.release(link, unsent.unwrap_or_default());
            self.outlets.remove(&link);
        }
    }
}

impl Session {
    /// Says what has gathered.
    fn settle_up(&mut self, out: &mut BytesMut) {
        if self.incoming_window < self.largest_window / 2 {
            self.flow(out, None);
        }
        self.flush(out);
    }
}

impl Outlet {
    /// Begins the next delivery. The bytes of an answer that waits no more are returned.
    fn begin(&mut self, session: &mut Session, link: LinkId, heads: &mut BytesMut) -> Option<usize> {
        let delivery = session.next_delivery;
        session.next_delivery = delivery.wrapping_add(1);
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&delivery.to_be_bytes());
        let (payload, settled, answered) = match self.ready.pop_front()? {
            Ready::Message(message) => {
                if let Some((token, _)) = message.lock {
                    tag = token.0.to_bytes_le();
                    session.unsettled.add(delivery, link, token);
                }
                let payload = delivery::payload(&message, For::Receiver, heads).unwrap_or_else(|malformed| {
                    heads.clear();
                    // Only a message that no door of ours let in: the client sees at least that it is there.
                    let mut body = BytesMut::from(&[0, 0x53, 0x77][..]);
                    encode::string(
                        &mut body,
                        &format!("the emulator can't encode this message: {malformed}"),
                    );
                    Payload::whole(body.freeze())
                });
                (payload, message.lock.is_none(), None)
            }
            Ready::Answer(payload) => {
                let length = payload.len();
                (payload, true, Some(length))
            }
        };
        self.sending = Some(Sending { payload, sent: 0, delivery, tag, settled });
        answered
    }

    /// Writes the next frame of what is being sent.
    fn send(&mut self, session: &mut Session, out: &mut BytesMut, frame: usize) {
        let Some(sending) = &mut self.sending else { return };
        session.flush(out);
        let rest = sending.payload.len() - sending.sent;
        let part = rest.min(frame - TRANSFER);
        let more = part < rest;
        let open = frame::Open::new(out, Kind::Amqp, session.channel);
        let mut fields = Composite::new(out, 0x14);
        fields.uint(out, self.place.handle);
        if sending.sent == 0 {
            fields
                .uint(out, sending.delivery)
                .field(out, |out| encode::binary(out, &sending.tag))
                .uint(out, 0)
                .boolean(out, sending.settled);
        } else {
            // They are the first frame's to say.
            fields.null(out).null(out).null(out).null(out);
        }
        fields.boolean(out, more).close(out);
        sending.payload.write(out, sending.sent, part);
        open.close(out);
        sending.sent += part;
        session.next_outgoing_id = session.next_outgoing_id.wrapping_add(1);
        session.remote_window -= 1;
        if !more {
            self.sending = None;
            // The client may have taken it back meanwhile.
            self.credit = self.credit.saturating_sub(1);
            self.delivery_count = self.delivery_count.wrapping_add(1);
        }
    }
}
