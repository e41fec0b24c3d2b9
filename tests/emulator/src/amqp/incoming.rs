//! Transfers from clients.

use bytes::Bytes;
use tokio::time::Instant;

use super::connection::{Connection, Trouble};
use super::error::Error;
use super::events::What;
use super::link::{LinkId, Node, Unfinished};
use super::message::{self, BATCH};
use super::performative::{Role, Transfer};
use super::session::{Outcome, Slot};
use super::value::Malformed;
use crate::model::{EntityPath, Input, Message};

impl Connection {
    pub(super) fn transfer(
        &mut self,
        channel: u16,
        transfer: &Transfer,
        payload: &[u8],
    ) -> Result<(), Trouble> {
        let trouble = |condition, text: &str| Err(Trouble::Session(Error::new(condition, text)));
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        if session.incoming_window == 0 {
            return trouble("amqp:session:window-violation", "a transfer beyond the incoming window");
        }
        session.incoming_window -= 1;
        session.next_incoming_id = session.next_incoming_id.wrapping_add(1);
        let link = match session.slots.get(&transfer.handle) {
            Some(Slot::In(link)) => *link,
            Some(Slot::Gone) => return Ok(()),
            Some(Slot::Out(_)) => {
                return trouble("amqp:not-allowed", "a transfer on a link that its sender receives on");
            }
            None => {
                return trouble(
                    "amqp:session:unattached-handle",
                    "a transfer on a handle that isn't attached",
                );
            }
        };
        let Some(inlet) = self.inlets.get_mut(&link) else { return Ok(()) };
        inlet.place.used = Instant::now();
        if !transfer.state.is_null() && transfer.state.code() == Some(0x34) {
            let error = Error::new("amqp:not-implemented", "Transactions are not supported here.");
            self.detach(link, &error);
            return Ok(());
        }
        let begins = inlet.unfinished.is_none();
        if begins {
            if inlet.credit == 0 {
                let error = Error::new("amqp:link:transfer-limit-exceeded", "a transfer without credit");
                self.detach(link, &error);
                return Ok(());
            }
            let Some(delivery) = transfer.delivery_id else {
                return trouble("amqp:invalid-field", "the first transfer of a delivery has no delivery-id");
            };
            if !transfer.more && !transfer.aborted {
                let format = transfer.message_format.unwrap_or_default();
                self.delivered(link, (delivery, format, transfer.settled), payload, payload.len());
                return Ok(());
            }
            let format = transfer.message_format.unwrap_or_default();
            inlet.unfinished = Some(Unfinished { delivery, format, ..Unfinished::default() });
        }
        let largest = inlet.max_message_size;
        let Some(unfinished) = &mut inlet.unfinished else { return Ok(()) };
        unfinished.settled |= transfer.settled;
        unfinished.length = unfinished.length.saturating_add(payload.len());
        if unfinished.length <= largest {
            unfinished.bytes.extend_from_slice(payload);
            self.unfinished += payload.len();
        } else {
            // It will be refused: only its end is waited for.
            self.unfinished -= std::mem::take(&mut unfinished.bytes).len();
        }
        if self.unfinished > self.shared.limits.unfinished {
            let text = "more messages were begun at a time than there is room for";
            return Err(Error::new("amqp:resource-limit-exceeded", text).into());
        }
        if transfer.more && !transfer.aborted {
            return Ok(());
        }
        let Some(Unfinished { delivery, format, settled, bytes, length }) = inlet.unfinished.take() else {
            return Ok(());
        };
        self.unfinished -= bytes.len();
        if transfer.aborted {
            // Settled by that; it has used its credit all the same.
            self.used_credit(link);
        } else {
            self.delivered(link, (delivery, format, settled), &bytes, length);
        }
        Ok(())
    }

    fn used_credit(&mut self, link: LinkId) {
        let Some(inlet) = self.inlets.get_mut(&link) else { return };
        inlet.credit -= 1;
        inlet.delivery_count = inlet.delivery_count.wrapping_add(1);
        if inlet.credit == self.shared.limits.credit / 2 {
            self.thirsty.push(link);
        }
    }

    /// A whole delivery, or the length of one that was too large to be kept.
    fn delivered(
        &mut self,
        link: LinkId,
        (delivery, format, settled): (u32, u32, bool),
        bytes: &[u8],
        length: usize,
    ) {
        self.used_credit(link);
        let Some(inlet) = self.inlets.get(&link) else { return };
        let (channel, session) = (inlet.place.channel, inlet.place.session);
        let refused = if length > inlet.max_message_size {
            let text = format!(
                "The received message (delivery-id:{delivery}, size:{length} bytes) exceeds the limit ({} bytes) \
                 currently allowed on the link.",
                inlet.max_message_size
            );
            Some(Error::new("amqp:link:message-size-exceeded", text))
        } else {
            match inlet.place.node.clone() {
                Node::Entity(entity) => match self.read(&entity, format, bytes) {
                    Ok(messages) => {
                        let submitted = self.shared.host.submit(Input::Send { entity, messages });
                        self.submitted(What::Sent { channel, session, delivery, settled }, submitted);
                        return;
                    }
                    Err(malformed) => Some(malformed.into()),
                },
                node => self.request(channel, session, &node, bytes).err(),
            }
        };
        let outcome = refused.map_or(Outcome::Accepted, Outcome::Failed);
        if let Some(session) = self.sessions.get_mut(&channel).filter(|_| !settled) {
            session.settle(&mut self.out, Role::Receiver, delivery, &outcome);
        }
    }

    fn read(&self, _entity: &EntityPath, format: u32, bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
        match format {
            BATCH => message::read_batch(bytes),
            _ => message::read(Bytes::copy_from_slice(bytes)).map(|message| vec![message]),
        }
    }

    /// Says to those that are running out of it how much they may send.
    pub(super) fn quench(&mut self) {
        for link in std::mem::take(&mut self.thirsty) {
            let Some(inlet) = self.inlets.get_mut(&link) else { continue };
            inlet.credit = self.shared.limits.credit;
            let flow = (inlet.place.handle, inlet.delivery_count, inlet.credit, false);
            if let Some(session) = self.sessions.get_mut(&inlet.place.channel) {
                session.flow(&mut self.out, Some(flow));
            }
        }
    }
}
