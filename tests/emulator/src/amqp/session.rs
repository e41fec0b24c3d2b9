//! Sessions: windows, and what they share between their links.

use std::collections::HashMap;

use bytes::BytesMut;

use super::encode::Composite;
use super::error::Error;
use super::frame::{self, Kind};
use super::link::LinkId;
use super::performative::{Begin, Flow, Role};
use super::unsettled::Unsettled;
use super::value::Value;

/// What a handle stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    In(LinkId),
    Out(LinkId),
    /// Detached from here: what the client says until it knows doesn't count.
    Gone,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) channel: u16,
    /// Ended from here: what the client says until it knows doesn't count.
    pub(super) ended: bool,
    pub(super) slots: HashMap<u32, Slot>,
    pub(super) next_incoming_id: u32,
    /// What it was at last, and what it is at most.
    pub(super) incoming_window: u32,
    pub(super) largest_window: u32,
    pub(super) next_outgoing_id: u32,
    pub(super) remote_window: u32,
    pub(super) next_delivery: u32,
    /// Deliveries that the client hasn't settled.
    pub(super) unsettled: Unsettled,
    /// Links that wait for the client's window.
    pub(super) stuck: Vec<LinkId>,
    /// Deliveries that were accepted and whose disposition waits for those behind them.
    accepted: Option<(Role, u32, u32)>,
}

/// What a disposition says.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Accepted,
    Released,
    /// Dead-lettered.
    Rejected,
    Failed(Error),
    /// As the client said it.
    Echo(Value),
}

impl Session {
    pub(super) fn new(id: u64, channel: u16, begin: &Begin, window: u32) -> Self {
        Self {
            id,
            channel,
            ended: false,
            slots: HashMap::new(),
            next_incoming_id: begin.next_outgoing_id,
            incoming_window: window,
            largest_window: window,
            next_outgoing_id: 0,
            remote_window: begin.incoming_window,
            next_delivery: 0,
            unsettled: Unsettled::default(),
            stuck: Vec::new(),
            accepted: None,
        }
    }

    pub(super) fn begin(&self, out: &mut BytesMut) {
        let open = frame::Open::new(out, Kind::Amqp, self.channel);
        Composite::new(out, 0x11)
            .field(out, |out| out.extend_from_slice(&[&[0x60], &self.channel.to_be_bytes()[..]].concat()))
            .uint(out, self.next_outgoing_id)
            .uint(out, self.largest_window)
            .uint(out, self.largest_window)
            .uint(out, u32::MAX)
            .close(out);
        open.close(out);
    }

    pub(super) fn end(&mut self, out: &mut BytesMut, error: Option<&Error>) {
        self.flush(out);
        let open = frame::Open::new(out, Kind::Amqp, self.channel);
        let mut fields = Composite::new(out, 0x17);
        Error::field(error, &mut fields, out);
        fields.close(out);
        open.close(out);
    }

    /// What the client says about its windows.
    pub(super) fn heard(&mut self, flow: &Flow) {
        let next = flow.next_incoming_id.unwrap_or(0);
        // Serial numbers: what is on its way counts as there.
        self.remote_window = next.wrapping_add(flow.incoming_window).wrapping_sub(self.next_outgoing_id);
        if self.remote_window > flow.incoming_window {
            self.remote_window = 0;
        }
        if let Some(next) = flow.next_outgoing_id {
            self.next_incoming_id = next;
        }
    }

    /// A flow, of a link where one is given: its handle, delivery count, credit, and whether it was drained.
    pub(super) fn flow(&mut self, out: &mut BytesMut, link: Option<(u32, u32, u32, bool)>) {
        self.flush(out);
        self.incoming_window = self.largest_window;
        let open = frame::Open::new(out, Kind::Amqp, self.channel);
        let mut fields = Composite::new(out, 0x13);
        fields
            .uint(out, self.next_incoming_id)
            .uint(out, self.incoming_window)
            .uint(out, self.next_outgoing_id)
            .uint(out, self.largest_window);
        if let Some((handle, delivery_count, credit, drain)) = link {
            fields.uint(out, handle).uint(out, delivery_count).uint(out, credit);
            fields.null(out).boolean(out, drain);
        }
        fields.close(out);
        open.close(out);
    }

    /// Tells the client what became of a delivery.
    pub(super) fn settle(&mut self, out: &mut BytesMut, role: Role, delivery: u32, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Accepted) {
            return self.disposition(out, role, (delivery, delivery), outcome);
        }
        match &mut self.accepted {
            Some((known, _, last)) if *known == role && last.wrapping_add(1) == delivery => *last = delivery,
            _ => {
                self.flush(out);
                self.accepted = Some((role, delivery, delivery));
            }
        }
    }

    /// Writes the disposition that waits.
    pub(super) fn flush(&mut self, out: &mut BytesMut) {
        if let Some((role, first, last)) = self.accepted.take() {
            self.write_disposition(out, role, (first, last), &Outcome::Accepted);
        }
    }

    pub(super) fn disposition(
        &mut self,
        out: &mut BytesMut,
        role: Role,
        range: (u32, u32),
        outcome: &Outcome,
    ) {
        self.flush(out);
        self.write_disposition(out, role, range, outcome);
    }

    fn write_disposition(
        &self,
        out: &mut BytesMut,
        role: Role,
        (first, last): (u32, u32),
        outcome: &Outcome,
    ) {
        let open = frame::Open::new(out, Kind::Amqp, self.channel);
        Composite::new(out, 0x15)
            .boolean(out, role == Role::Receiver)
            .uint(out, first)
            .uint(out, last)
            .boolean(out, true)
            .field(out, |out| match outcome {
                Outcome::Accepted => out.extend_from_slice(&[0, 0x53, 0x24, 0x45]),
                Outcome::Released => out.extend_from_slice(&[0, 0x53, 0x26, 0x45]),
                Outcome::Rejected => out.extend_from_slice(&[0, 0x53, 0x25, 0x45]),
                Outcome::Failed(error) => {
                    Composite::new(out, 0x25).field(out, |out| error.write(out)).close(out);
                }
                Outcome::Echo(value) => super::encode::value(out, value),
            })
            .close(out);
        open.close(out);
    }

    /// A link waits for the client's window.
    pub(super) fn wait(&mut self, link: LinkId) {
        if !self.stuck.contains(&link) {
            self.stuck.push(link);
        }
    }

    pub(super) fn detach(&mut self, out: &mut BytesMut, handle: u32, closed: bool, error: Option<&Error>) {
        self.flush(out);
        let open = frame::Open::new(out, Kind::Amqp, self.channel);
        let mut fields = Composite::new(out, 0x16);
        fields.uint(out, handle).boolean(out, closed);
        Error::field(error, &mut fields, out);
        fields.close(out);
        open.close(out);
    }
}
