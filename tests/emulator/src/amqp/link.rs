//! The two kinds of links, seen from here: what clients send into, and what they receive from.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delivery::Payload;
use super::value::Value;
use crate::host::Host;
use crate::model::{Delivery, EntityPath, Input, LockToken, ReceiveMode, ReceiverId};

/// A link of a connection: never the same twice, unlike its handle.
pub(super) type LinkId = u64;

/// What a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    Management(EntityPath),
    Entity(EntityPath),
}

impl Node {
    /// Reads an address, whose scheme and authority don't count.
    pub(super) fn parse(address: &str) -> Result<Self, crate::model::Fault> {
        const MANAGEMENT: &str = "/$management";
        let path = match address.find("://") {
            Some(scheme) => address[scheme + 3..].split_once('/').map_or("", |(_, path)| path),
            None => address,
        };
        if path.trim_start_matches('/').eq_ignore_ascii_case("$cbs") {
            return Ok(Self::Cbs);
        }
        match address.len().checked_sub(MANAGEMENT.len()).and_then(|at| address.split_at_checked(at)) {
            Some((entity, last)) if last.eq_ignore_ascii_case(MANAGEMENT) => {
                EntityPath::parse(entity).map(Self::Management)
            }
            _ => EntityPath::parse(address).map(Self::Entity),
        }
    }
}

/// Where a link is, and when it was of use.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) channel: u16,
    /// The session on that channel: another one may have it later.
    pub(super) session: u64,
    pub(super) handle: u32,
    pub(super) name: String,
    /// The node's, as the client wrote it.
    pub(super) address: String,
    pub(super) node: Node,
    pub(super) used: Instant,
}

impl Place {
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        self.used.elapsed() > limit
    }
}

/// A link that the client sends on.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) place: Place,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    pub(super) max_message_size: usize,
    pub(super) unfinished: Option<Unfinished>,
}

/// A delivery whose last frame hasn't come.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    pub(super) delivery: u32,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) bytes: BytesMut,
    /// With those that weren't kept because there were too many.
    pub(super) length: usize,
}

/// A link that the client receives on.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) place: Place,
    /// The client's own address, by which a request says where its answer goes.
    pub(super) reply_address: Option<String>,
    /// None on a node's link.
    pub(super) claim: Option<Claim>,
    /// False while a session is waited for.
    pub(super) attached: bool,
    /// What the reply to the attach is made of.
    pub(super) attach: Reply,
    pub(super) session_id: Option<String>,
    pub(super) mode: ReceiveMode,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    pub(super) drain: bool,
    /// Something may be there to be received.
    pub(super) look: bool,
    /// A receive whose result isn't there yet.
    pub(super) fetching: bool,
    /// Stands in the queue of links with something to do.
    pub(super) hot: bool,
    pub(super) ready: VecDeque<Ready>,
    pub(super) sending: Option<Sending>,
    /// Whoever waits for the link gives up when it goes.
    pub(super) _cancel: oneshot::Sender<()>,
}

/// What an attach is answered with.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) source: Value,
    pub(super) target: Value,
    pub(super) snd_settle_mode: u32,
    pub(super) rcv_settle_mode: u32,
}

/// Something to send.
#[derive(Debug)]
pub(super) enum Ready {
    Message(Delivery),
    Answer(Payload),
}

/// A delivery that is on its way.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) payload: Payload,
    pub(super) sent: usize,
    pub(super) delivery: u32,
    pub(super) tag: [u8; 16],
    pub(super) settled: bool,
}

/// A receiver of the model's, which ends with the link.
#[derive(Debug)]
pub(super) struct Claim {
    host: Host,
    pub(super) receiver: ReceiverId,
}

impl Claim {
    pub(super) fn new(host: &Host) -> Self {
        Self { host: host.clone(), receiver: host.new_receiver() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is told, so nobody waits until it is durable.
        drop(self.host.submit(Input::CloseReceiver { receiver: self.receiver }));
    }
}

impl Outlet {
    /// Bytes of answers that wait for credit.
    pub(super) fn answers(&self) -> usize {
        let answers = self.ready.iter().map(|ready| match ready {
            Ready::Answer(payload) => payload.len(),
            Ready::Message(_) => 0,
        });
        answers.sum()
    }

    /// The locks of messages that were fetched and won't be sent.
    pub(super) fn take_unsent(&mut self) -> Vec<LockToken> {
        let ready = std::mem::take(&mut self.ready).into_iter();
        ready
            .filter_map(|ready| match ready {
                Ready::Message(delivery) => delivery.lock.map(|(token, _)| token),
                Ready::Answer(_) => None,
            })
            .collect()
    }
}
