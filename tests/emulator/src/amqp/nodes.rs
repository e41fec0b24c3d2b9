//! Requests to `$cbs` and `$management`.

use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use super::encode::{self, Composite, Open};
use super::error::Error;
use super::events::Event;
use super::link::Node;
use super::management;
use super::message::Request;
use super::value::Value;
use crate::model::Value as Simple;

impl Connection {
    /// A request that came on a link to a node; its answer comes later, or never where it can't be read at all.
    pub(super) fn request(
        &mut self,
        channel: u16,
        session: u64,
        node: &Node,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let request = Request::read(bytes)?;
        if !self.outlets.values().any(|outlet| outlet.place.node == *node && outlet.attached) {
            let text = "There is no link from this node that an answer could be sent on.";
            return Err(Error::new("amqp:not-allowed", text));
        }
        if self.answers > self.shared.limits.answers {
            let text = "Too many answers wait for the client to take them.";
            return Err(Error::new("amqp:resource-limit-exceeded", text));
        }
        match node {
            Node::Cbs => {
                let (status, text) = self.put_token(&request);
                let reply = Reply { names: CBS, status, text, condition: None, body: Value::NULL };
                let answer = reply.encode(&request.message_id);
                self.answer(channel, session, node, request.reply_to.as_deref(), answer);
            }
            Node::Management(entity) => {
                let caller = management::Caller {
                    host: self.shared.host.clone(),
                    entity: entity.clone(),
                    receiver: self.associated(&request),
                };
                let node = node.clone();
                self.asked += 1;
                self.events.push(Box::pin(async move {
                    let reply = management::answer(&caller, &request).await;
                    let answer = reply.encode(&request.message_id);
                    Event::Answered { channel, session, node, reply_to: request.reply_to, answer }
                }));
            }
            Node::Entity(_) => {}
        }
        Ok(())
    }

    /// The receiver whose link a request names.
    fn associated(&self, request: &Request) -> Option<crate::model::ReceiverId> {
        let name = request.property("associated-link-name")?;
        let outlet = self.outlets.values().find(|outlet| outlet.place.name == name)?;
        outlet.claim.as_ref().map(|claim| claim.receiver)
    }

    fn put_token(&mut self, request: &Request) -> (u16, String) {
        match request.property("operation") {
            Some("put-token") => {}
            Some("delete-token") => return (202, String::from("Accepted")),
            other => {
                let other = other.unwrap_or_default();
                return (400, format!("The operation '{other}' is none of $cbs."));
            }
        }
        let name = request.property("name").unwrap_or_default();
        let token = match request.body.simple() {
            Some(Simple::String(token) | Simple::Symbol(token)) => token.clone(),
            Some(Simple::Binary(token)) => String::from_utf8_lossy(token).into_owned(),
            _ => String::new(),
        };
        match self.shared.authority.check_token(&token, self.shared.host.now()) {
            Ok(grant) if grant.covers(name) => {
                self.access.put(name, grant);
                (202, String::from("Accepted"))
            }
            Ok(_) => (401, format!("InvalidAudience: the token is not for '{name}'.")),
            Err(refusal) => (401, format!("{refusal}.")),
        }
    }
}

/// How an answer's properties are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    status: &'static str,
    description: &'static str,
}

pub(super) const CBS: Names = Names { status: "status-code", description: "status-description" };
pub(super) const MANAGEMENT: Names = Names { status: "statusCode", description: "statusDescription" };

/// An answer of a node.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) names: Names,
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) condition: Option<&'static str>,
    pub(super) body: Value,
}

impl Reply {
    /// The message that says so to whoever sent that one.
    fn encode(&self, correlation_id: &Value) -> Bytes {
        let mut out = BytesMut::new();
        let mut properties = Composite::new(&mut out, 0x73);
        for _ in 0..5 {
            properties.null(&mut out);
        }
        properties.value(&mut out, correlation_id).close(&mut out);
        out.extend_from_slice(&[0, 0x53, 0x74]);
        let map = Open::new(&mut out, 0xd1);
        encode::string(&mut out, self.names.status);
        encode::simple(&mut out, &Simple::Int(self.status.into()));
        encode::string(&mut out, self.names.description);
        encode::string(&mut out, &self.text);
        let mut count = 4;
        if let Some(condition) = self.condition {
            encode::string(&mut out, "errorCondition");
            encode::symbol(&mut out, condition);
            count += 2;
        }
        map.close(&mut out, count);
        out.extend_from_slice(&[0, 0x53, 0x77]);
        encode::value(&mut out, &self.body);
        out.freeze()
    }
}
