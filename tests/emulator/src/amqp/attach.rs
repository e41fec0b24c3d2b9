//! Sessions and links begin and end.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::{Connection, Trouble};
use super::encode::{self, Composite};
use super::error::Error;
use super::events::Event;
use super::frame::{self, Kind};
use super::link::{Claim, Inlet, LinkId, Node, Outlet, Place, Reply};
use super::performative::{Attach, Begin, Role, address};
use super::session::{Session, Slot};
use super::value::Value;
use crate::model::{Fault, Input, ReceiveMode, SessionGrant, SessionWish, Value as Simple};

pub(super) const SESSION_FILTER: &str = "com.microsoft:session-filter";
const TIMEOUT: &str = "com.microsoft:timeout";
const LOCKED_UNTIL: &str = "com.microsoft:locked-until-utc";
/// For the next session, where the client doesn't say, and where it says too much.
const PATIENCE: (u32, u32) = (65_000, 24 * 3_600_000);
/// What a node's request may have.
const LARGEST_REQUEST: usize = 1024 * 1024;

impl Connection {
    pub(super) fn begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Error> {
        if channel > self.shared.limits.channel_max {
            let text =
                format!("the channel {channel} is above the channel-max {}", self.shared.limits.channel_max);
            return Err(Error::new("amqp:connection:framing-error", text));
        }
        if self.sessions.contains_key(&channel) {
            let text = format!("there is a session on the channel {channel} already");
            return Err(Error::new("amqp:illegal-state", text));
        }
        let id = self.next_id();
        let session = Session::new(id, channel, begin, self.shared.limits.window);
        session.begin(&mut self.out);
        self.sessions.insert(channel, session);
        Ok(())
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn attach(&mut self, channel: u16, attach: Attach) -> Result<(), Trouble> {
        let Some(session) = self.sessions.get(&channel) else { return Ok(()) };
        if matches!(session.slots.get(&attach.handle), Some(Slot::In(_) | Slot::Out(_))) {
            let text = format!("the handle {} is attached already", attach.handle);
            return Err(Trouble::Session(Error::new("amqp:session:handle-in-use", text)));
        }
        // Handles that were detached from here count until the client has heard of it.
        if session.slots.len() > 2 * self.shared.limits.links {
            let text = "a session has too many handles";
            return Err(Trouble::Session(Error::new("amqp:resource-limit-exceeded", text)));
        }
        let (role, handle, session) = (attach.role, attach.handle, session.id);
        let terminus = if role == Role::Sender { &attach.target } else { &attach.source };
        let node = self.node(terminus);
        let address = address(terminus).unwrap_or_default().to_owned();
        let reply = Reply {
            source: attach.source,
            target: attach.target,
            snd_settle_mode: attach.snd_settle_mode.unwrap_or(2),
            rcv_settle_mode: attach.rcv_settle_mode.unwrap_or(0),
        };
        let used = Instant::now();
        let name = attach.name;
        let (node, error) = match node {
            Ok(node) => (node, None),
            Err(error) => (Node::Cbs, Some(error)),
        };
        let place = Place { channel, session, handle, name, address, node, used };
        if let Some(error) = error {
            self.refuse(&place, role, &reply, &error);
            return Ok(());
        }
        match role {
            Role::Sender => self.attach_inlet(place, &reply, attach.initial_delivery_count),
            Role::Receiver => self.attach_outlet(place, reply, &attach.properties),
        }
        Ok(())
    }

    /// What a terminus leads to, where the client may go there.
    fn node(&self, terminus: &Value) -> Result<Node, Error> {
        if self.inlets.len() + self.outlets.len() >= self.shared.limits.links {
            let text = format!("A connection has at most {} links.", self.shared.limits.links);
            return Err(Error::new("amqp:resource-limit-exceeded", text));
        }
        if terminus.code() == Some(0x30) {
            return Err(Error::new("amqp:not-implemented", "Transactions are not supported here."));
        }
        let Some(address) = address(terminus) else {
            return Err(Error::new("amqp:invalid-field", "The address of an entity is missing."));
        };
        let node = Node::parse(address)?;
        if node != Node::Cbs && !self.access.allows(address, self.shared.host.now()) {
            let text =
                format!("Unauthorized access. There is no valid token for '{address}' on this connection.");
            return Err(Error::new("amqp:unauthorized-access", text));
        }
        if let Node::Management(entity) = &node
            && self.shared.host.read(|model, _| model.entity(&entity.entity())).is_none()
        {
            let text = format!("The messaging entity '{entity}' could not be found.");
            return Err(Error::new("amqp:not-found", text));
        }
        Ok(node)
    }

    pub(super) fn refusal(role: Role, reply: &Reply) -> Reply {
        let (mut source, mut target) = (reply.source.clone(), reply.target.clone());
        match role {
            Role::Sender => target = Value::NULL,
            Role::Receiver => source = Value::NULL,
        }
        Reply { source, target, ..*reply }
    }

    /// An attach that leads nowhere, and the detach that says why.
    fn refuse(&mut self, place: &Place, role: Role, reply: &Reply, error: &Error) {
        let refusal = Self::refusal(role, reply);
        write_attach(&mut self.out, place.channel, place, role, &refusal, None);
        if let Some(session) = self.sessions.get_mut(&place.channel) {
            session.slots.insert(place.handle, Slot::Gone);
            session.detach(&mut self.out, place.handle, true, Some(error));
        }
    }

    fn attach_inlet(&mut self, place: Place, reply: &Reply, delivery_count: u32) {
        let max_message_size = match &place.node {
            Node::Entity(entity) => match self.shared.host.read(|model, _| model.check_sender(entity)) {
                Ok(limits) => usize::try_from(limits.max_message_size).unwrap_or(usize::MAX),
                Err(fault) => return self.refuse(&place, Role::Sender, reply, &fault.into()),
            },
            _ => LARGEST_REQUEST,
        };
        let link = self.next_id();
        let credit = self.shared.limits.credit;
        write_attach(&mut self.out, place.channel, &place, Role::Sender, reply, Some(max_message_size));
        if let Some(session) = self.sessions.get_mut(&place.channel) {
            session.slots.insert(place.handle, Slot::In(link));
            session.flow(&mut self.out, Some((place.handle, delivery_count, credit, false)));
        }
        let unfinished = None;
        self.inlets.insert(link, Inlet { place, credit, delivery_count, max_message_size, unfinished });
    }

    fn attach_outlet(&mut self, place: Place, reply: Reply, properties: &Value) {
        let filter = session_filter(&reply.source);
        let link = self.next_id();
        let host = self.shared.host.clone();
        let (cancel, cancelled) = oneshot::channel();
        let mode =
            if reply.snd_settle_mode == 1 { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let reply = Reply { snd_settle_mode: reply.snd_settle_mode % 2, ..reply };
        let mut outlet = Outlet {
            reply_address: address(&reply.target).map(str::to_owned),
            claim: None,
            attached: false,
            session_id: None,
            mode,
            credit: 0,
            delivery_count: 0,
            drain: false,
            look: true,
            fetching: false,
            hot: false,
            ready: VecDeque::new(),
            sending: None,
            attach: reply,
            place,
            _cancel: cancel,
        };
        let Node::Entity(entity) = outlet.place.node.clone() else {
            outlet.look = false;
            return self.attached(link, outlet, None);
        };
        let claim = Claim::new(&host);
        let receiver = claim.receiver;
        outlet.claim = Some(claim);
        let wish = match filter {
            Ok(wish) => wish,
            Err(error) => return self.refuse(&outlet.place, Role::Receiver, &outlet.attach, &error),
        };
        let Some(wish) = wish else {
            // Watched before anything is looked at, so that nothing is missed.
            let changes = host.watch(&entity);
            return match self.open_receiver(Input::OpenReceiver { entity, receiver }) {
                Ok(()) => {
                    self.attached(link, outlet, None);
                    self.watch(link, changes, cancelled);
                }
                Err(fault) => self.refuse(&outlet.place, Role::Receiver, &outlet.attach, &fault.into()),
            };
        };
        if let Err(fault) = host.read(|model, _| model.check_receiver(&entity, true)) {
            return self.refuse(&outlet.place, Role::Receiver, &outlet.attach, &fault.into());
        }
        let patience = properties.get(TIMEOUT).and_then(Value::u32).unwrap_or(PATIENCE.0).min(PATIENCE.1);
        let patience = Duration::from_millis(patience.into());
        if let Some(session) = self.sessions.get_mut(&outlet.place.channel) {
            session.slots.insert(outlet.place.handle, Slot::Out(link));
        }
        self.outlets.insert(link, outlet);
        self.events.push(Box::pin(async move {
            let mut cancel = cancelled;
            let result = tokio::select! {
                biased;
                _ = &mut cancel => None,
                result = host.wait_session(&entity, receiver, wish, patience) => Some(result),
            };
            result.map_or(Event::Cancelled, |result| Event::Granted { link, result, cancel })
        }));
    }

    /// Nobody waits until an opened receiver is durable: it ends with the process. Should a refusal have to be waited for,
    /// because something else was due, then the first receive gets it as well.
    fn open_receiver(&self, input: Input) -> Result<(), Fault> {
        match self.shared.host.submit(input).try_durable() {
            Ok(result) => result.map(drop),
            Err(_later) => Ok(()),
        }
    }

    /// The attach is answered, and what waits may come.
    fn attached(&mut self, link: LinkId, mut outlet: Outlet, grant: Option<&SessionGrant>) {
        outlet.attached = true;
        let place = &outlet.place;
        write_outlet(&mut self.out, &outlet, grant);
        if let Some(session) = self.sessions.get_mut(&place.channel) {
            session.slots.insert(place.handle, Slot::Out(link));
        }
        self.outlets.insert(link, outlet);
        self.heat(link);
    }

    /// A session was waited for.
    pub(super) fn granted(
        &mut self,
        link: LinkId,
        result: Result<SessionGrant, Fault>,
        cancel: oneshot::Receiver<()>,
    ) {
        let Some(mut outlet) = self.outlets.remove(&link) else { return };
        match result {
            Ok(grant) => {
                outlet.session_id = Some(grant.session_id.clone());
                let Node::Entity(entity) = &outlet.place.node else { return };
                let changes = self.shared.host.watch(entity);
                self.attached(link, outlet, Some(&grant));
                self.watch(link, changes, cancel);
            }
            Err(fault) => self.refuse(&outlet.place, Role::Receiver, &outlet.attach, &fault.into()),
        }
    }
}

/// The session that a source asks for, where it asks for one.
fn session_filter(source: &Value) -> Result<Option<SessionWish>, Error> {
    let entries = source.field(7).and_then(Value::entries).unwrap_or_default();
    let Some((_, filter)) = entries.iter().find(|(key, _)| key.text() == Some(SESSION_FILTER)) else {
        return Ok(None);
    };
    match filter.simple() {
        Some(Simple::Null) => Ok(Some(SessionWish::Next)),
        Some(Simple::String(id)) => Ok(Some(SessionWish::Named(id.clone()))),
        _ => Err(Error::new("amqp:invalid-field", "The session filter is neither a string nor null.")),
    }
}

fn write_outlet(out: &mut BytesMut, outlet: &Outlet, grant: Option<&SessionGrant>) {
    let Reply { source, target, snd_settle_mode, rcv_settle_mode } = &outlet.attach;
    let mut source = source.clone();
    if let Value::Described(described) = &mut source
        && let Value::List(fields) = &mut described.1
        && let Some(filter) = fields.get_mut(7)
    {
        // Only what is obeyed is sent back.
        let granted = grant.map(|grant| (Value::symbol(SESSION_FILTER), Value::string(&grant.session_id)));
        *filter = granted.map_or(Value::NULL, |granted| Value::Map(vec![granted]));
    }
    let open = frame::Open::new(out, Kind::Amqp, outlet.place.channel);
    let mut fields = Composite::new(out, 0x12);
    fields
        .field(out, |out| encode::string(out, &outlet.place.name))
        .uint(out, outlet.place.handle)
        .boolean(out, false)
        .value(out, &Value::Simple(Simple::UByte(u8::try_from(*snd_settle_mode).unwrap_or(2))))
        .value(out, &Value::Simple(Simple::UByte(u8::try_from(*rcv_settle_mode).unwrap_or(0))))
        .value(out, &source)
        .value(out, target);
    fields.null(out).null(out).uint(out, outlet.delivery_count).null(out).null(out).null(out);
    let until = grant
        .map(|grant| (Value::symbol(LOCKED_UNTIL), Value::Simple(Simple::Long(grant.locked_until.ticks()))));
    fields.value(out, &Value::Map(until.into_iter().collect()));
    fields.close(out);
    open.close(out);
}

/// The reply to an attach whose client has that role; with the largest message where it may send.
pub(super) fn write_attach(
    out: &mut BytesMut,
    channel: u16,
    place: &Place,
    role: Role,
    reply: &Reply,
    max_message_size: Option<usize>,
) {
    let open = frame::Open::new(out, Kind::Amqp, channel);
    let mut fields = Composite::new(out, 0x12);
    fields
        .field(out, |out| encode::string(out, &place.name))
        .uint(out, place.handle)
        .boolean(out, role == Role::Sender)
        .value(out, &Value::Simple(Simple::UByte(u8::try_from(reply.snd_settle_mode).unwrap_or(2))))
        .value(out, &Value::Simple(Simple::UByte(u8::try_from(reply.rcv_settle_mode).unwrap_or(0))))
        .value(out, &reply.source)
        .value(out, &reply.target);
    fields.null(out).null(out);
    match role {
        Role::Sender => fields.null(out),
        Role::Receiver => fields.uint(out, 0),
    };
    if let Some(size) = max_message_size {
        fields.value(out, &Value::Simple(Simple::ULong(size as u64)));
        fields.null(out).null(out).value(out, &Value::Map(Vec::new()));
    }
    fields.close(out);
    open.close(out);
}
