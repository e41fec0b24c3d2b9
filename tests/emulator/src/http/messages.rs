//! The REST data plane: sending one message or many, and receiving one at a time.

mod broker_properties;
mod sections;

use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::Inner;
use super::request::{Asked, Refused, Reply, body, empty};
use crate::model::{
    Condition, Delivery, EntityPath, Fault, Input, LockToken, Message, Modify, Outcome, ReceiveMode,
};

/// What a batch comes as.
const BATCH: &str = "application/vnd.microsoft.servicebus.json";
/// A JSON text can be that much longer than what it says.
const ESCAPED: usize = 6;
/// Bytes of a body, whatever an entity allows.
const LARGEST: usize = 128 * 1024 * 1024;
/// Seconds to wait for a message, where a client doesn't say and where it says too much.
const PATIENCE: (u32, u32) = (60, 3600);
/// Header names that are HTTP's own or a proxy's, or begin so.
const NOT_PROPERTIES: [&str; 31] = [
    "accept",
    "accept-",
    "age",
    "authorization",
    "brokerproperties",
    "cache-control",
    "connection",
    "content-",
    "cookie",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-",
    "range",
    "referer",
    "sec-",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "warning",
];

/// What a path means here.
pub(super) enum Target {
    Messages(String),
    Head(String),
    Locked(String, Uuid),
}

impl Target {
    /// None where the path is none of the data plane's.
    pub(super) fn of(asked: &Asked) -> Result<Option<Self>, Refused> {
        let segments: Vec<&str> = asked.path.split('/').collect();
        let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
        match segments.as_slice() {
            // Something may be called so: only sending is this.
            [entity @ .., last]
                if !entity.is_empty() && is(last, "messages") && asked.method == Method::POST =>
            {
                Ok(Some(Self::Messages(entity.join("/"))))
            }
            [entity @ .., messages, head]
                if !entity.is_empty() && is(messages, "messages") && is(head, "head") =>
            {
                Ok(Some(Self::Head(entity.join("/"))))
            }
            [entity @ .., messages, _id, token] if !entity.is_empty() && is(messages, "messages") => {
                let wrong =
                    |_| Refused::new(StatusCode::BAD_REQUEST, format!("`{token}` is not a lock token."));
                let token = Uuid::parse_str(token).map_err(wrong)?;
                Ok(Some(Self::Locked(entity.join("/"), token)))
            }
            _ => Ok(None),
        }
    }
}

/// The data plane has statuses of its own for what isn't there.
fn refused(fault: Fault) -> Refused {
    let condition = fault.condition;
    let mut refused = Refused::from(fault);
    match condition {
        Condition::NotFound => refused.status = StatusCode::GONE,
        Condition::MessageLockLost | Condition::SessionLockLost => refused.status = StatusCode::NOT_FOUND,
        _ => {}
    }
    refused
}

pub(super) async fn answer(
    door: &Inner,
    asked: &Asked,
    target: Target,
    incoming: Incoming,
) -> Result<Reply, Refused> {
    match target {
        Target::Messages(entity) => send(door, asked, EntityPath::parse(&entity)?, incoming).await,
        Target::Head(entity) => {
            let mode = match asked.method {
                Method::POST => ReceiveMode::PeekLock,
                Method::DELETE => ReceiveMode::ReceiveAndDelete,
                _ => return Err(Refused::method(asked, "POST, DELETE")),
            };
            receive(door, asked, EntityPath::parse(&entity)?, mode).await
        }
        Target::Locked(entity, token) => {
            settle(door, asked, EntityPath::parse(&entity)?, LockToken(token)).await
        }
    }
}

async fn send(door: &Inner, asked: &Asked, entity: EntityPath, incoming: Incoming) -> Result<Reply, Refused> {
    let limits = door.host.read(|model, _| model.check_sender(&entity)).map_err(refused)?;
    let most = usize::try_from(limits.max_message_size).unwrap_or(LARGEST).min(LARGEST);
    let kind = asked.header(CONTENT_TYPE.as_str());
    let is_batch = kind
        .is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BATCH));
    let readable = if is_batch { most.saturating_mul(ESCAPED).min(LARGEST) } else { most };
    let body = body(incoming, readable).await?.ok_or_else(|| {
        let text = format!("The message is too large: '{entity}' takes at most {most} bytes.");
        Refused::new(StatusCode::FORBIDDEN, text)
    })?;
    let wrong = |text: String| Refused::new(StatusCode::BAD_REQUEST, format!("{text}."));
    let messages =
        if is_batch { batch(&body) } else { single(asked, kind, &body).map(|message| vec![message]) };
    door.host.send(entity, messages.map_err(wrong)?).await.map_err(refused)?;
    Ok(empty(StatusCode::CREATED))
}

fn single(asked: &Asked, kind: Option<&str>, body: &Bytes) -> Result<Message, String> {
    let mut message = Message::default();
    if let Some(header) = asked.headers.get("brokerproperties") {
        let json: Map<String, Json> = serde_json::from_slice(header.as_bytes())
            .map_err(|error| format!("BrokerProperties is not a JSON object: {error}"))?;
        broker_properties::read(&json, &mut message)?;
    }
    message.properties.content_type = kind.map(str::to_owned);
    for (name, header) in &asked.headers {
        let name = name.as_str();
        if NOT_PROPERTIES
            .iter()
            .any(|own| if own.ends_with('-') { name.starts_with(own) } else { name == *own })
        {
            continue;
        }
        let text = String::from_utf8_lossy(header.as_bytes());
        message.application.insert(name.to_owned(), broker_properties::read_header(&text));
    }
    Ok(sections::encode(message, body))
}

fn batch(body: &[u8]) -> Result<Vec<Message>, String> {
    let json: Vec<Json> =
        serde_json::from_slice(body).map_err(|error| format!("The batch is not a JSON list: {error}"))?;
    if json.is_empty() {
        return Err(String::from("The batch has no messages"));
    }
    let one = |(index, json): (usize, &Json)| {
        batched(json).map_err(|why| format!("Message {index} of the batch: {why}"))
    };
    json.iter().enumerate().map(one).collect()
}

fn batched(json: &Json) -> Result<Message, String> {
    let json = json.as_object().ok_or("it is not an object")?;
    let object = |name: &str| match json.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("{name} is not an object")),
    };
    let mut message = Message::default();
    if let Some(properties) = object("BrokerProperties")? {
        broker_properties::read(properties, &mut message)?;
        if let Some(Json::String(kind)) = properties.get("ContentType") {
            message.properties.content_type = Some(kind.clone());
        }
    }
    for (name, value) in object("UserProperties")?.into_iter().flatten() {
        let value = broker_properties::value(value)
            .ok_or_else(|| format!("UserProperties: `{name}` is not a simple value"))?;
        message.application.insert(name.clone(), value);
    }
    let body = match json.get("Body") {
        None | Some(Json::Null) => "",
        Some(Json::String(body)) => body,
        Some(_) => return Err(String::from("Body is not a string")),
    };
    Ok(sections::encode(message, body.as_bytes()))
}

async fn receive(
    door: &Inner,
    asked: &Asked,
    entity: EntityPath,
    mode: ReceiveMode,
) -> Result<Reply, Refused> {
    let seconds = asked.number("timeout")?.unwrap_or(PATIENCE.0).min(PATIENCE.1);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds.into());
    // Watched first and looked at then, so that nothing is missed.
    let mut changes = door.host.watch(&entity);
    loop {
        changes.mark_unchanged();
        let received = door.host.receive(entity.clone(), None, None, mode, 1).await.map_err(refused)?;
        if let Some(delivery) = received.first() {
            return Ok(delivered(asked, &entity, delivery));
        }
        let changed = tokio::select! {
            changed = tokio::time::timeout_at(deadline, changes.changed()) => matches!(changed, Ok(Ok(()))),
            () = door.host.stopped() => false,
        };
        if !changed {
            return Ok(empty(StatusCode::NO_CONTENT));
        }
    }
}

fn delivered(asked: &Asked, entity: &EntityPath, delivery: &Delivery) -> Reply {
    let message = &delivery.message;
    let status = if delivery.lock.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    let mut reply = empty(status);
    // The message is locked or gone by now, so that what can't be shown is left out and not an error.
    *reply.body_mut() = Full::new(sections::body(&message.raw).unwrap_or_default().into());
    let headers = reply.headers_mut();
    for (name, value) in &message.application {
        let header = broker_properties::header(value).and_then(|text| HeaderValue::from_str(&text).ok());
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| {
            // One of these would change what the answer means.
            !["connection", "content-length", "transfer-encoding", "date", "location"]
                .contains(&name.as_str())
        });
        if let (Some(name), Some(header)) = (name, header) {
            headers.insert(name, header);
        }
    }
    if let Some((token, _)) = delivery.lock {
        let location = asked.url(&format!("{entity}/messages/{}/{}", delivery.sequence_number, token.0));
        if let Ok(location) = HeaderValue::from_str(&location) {
            headers.insert(LOCATION, location);
        }
    }
    let kind = message.properties.content_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind);
    }
    if let Ok(properties) = HeaderValue::from_str(&broker_properties::write(delivery)) {
        headers.insert("brokerproperties", properties);
    }
    reply
}

async fn settle(door: &Inner, asked: &Asked, entity: EntityPath, token: LockToken) -> Result<Reply, Refused> {
    let outcome = match asked.method {
        Method::DELETE => Outcome::Complete,
        Method::PUT => Outcome::Abandon { modify: Modify::new() },
        Method::POST => {
            let renewed = Input::RenewLocks { entity, session: None, tokens: vec![token] };
            door.host.apply(renewed).await.map_err(refused)?;
            return Ok(empty(StatusCode::OK));
        }
        _ => return Err(Refused::method(asked, "POST, PUT, DELETE")),
    };
    let settled = door.host.settle(entity, None, None, vec![token], outcome).await.map_err(refused)?;
    settled.into_iter().collect::<Result<Vec<()>, Fault>>().map_err(refused)?;
    Ok(empty(StatusCode::OK))
}
