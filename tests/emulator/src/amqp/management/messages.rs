//! Messages that are peeked, deferred, scheduled, or settled without a link.

use bytes::BytesMut;
use uuid::Uuid;

use super::super::delivery::{self, For};
use super::super::message;
use super::super::settle::modify;
use super::super::value::Value;
use super::{Answer, Body, Caller, array, map, wrong};
use crate::model::{
    Condition, Delivery, Fault, Input, Outcome, ReceiveMode, ReceiverId, Time, Value as Simple,
};

/// Bytes of an answer, from which on no further message is put into it: the next request gets the rest.
const ENOUGH: usize = 1024 * 1024;

impl Caller {
    /// Where a session is named its holder must ask, if it is known who asks; otherwise the lock token alone counts.
    fn holder(&self, session: Option<&String>) -> Option<ReceiverId> {
        session.and(self.receiver)
    }
}

fn encoded(delivery: &Delivery, with_body: bool) -> Result<Value, Fault> {
    let payload = delivery::payload(delivery, For::Answer, &mut BytesMut::new())
        .map_err(|malformed| Fault::new(Condition::InternalError, malformed.0))?;
    let mut bytes = BytesMut::with_capacity(payload.len());
    payload.write(&mut bytes, 0, if with_body { payload.len() } else { payload.head_len() });
    if !with_body {
        bytes.extend_from_slice(&[0, 0x53, 0x75, 0xa0, 0]);
    }
    Ok(Value::Simple(Simple::Binary(bytes.freeze())))
}

pub(super) fn peek(caller: &Caller, body: Body<'_>) -> Answer {
    let from = body.number("from-sequence-number")?;
    let count = body.count("message-count")?;
    let with_body = !body.0.get("omit-message-body").and_then(Value::boolean).unwrap_or_default();
    let session = body.session();
    let found = caller.host.read(|model, _| model.peek(&caller.entity, session.as_deref(), from, count))?;
    let mut length = 0;
    let mut messages = Vec::new();
    for delivery in &found {
        if length > ENOUGH {
            break;
        }
        let message = encoded(delivery, with_body)?;
        length += message.binary().map_or(0, bytes::Bytes::len);
        messages.push(map([("message", message)]));
    }
    Ok((!messages.is_empty()).then(|| map([("messages", Value::List(messages))])))
}

pub(super) async fn receive_deferred(caller: &Caller, body: Body<'_>) -> Answer {
    let sequence_numbers = body.sequence_numbers()?;
    let session = body.session();
    let mode = match body.0.get("receiver-settle-mode").and_then(Value::u32) {
        Some(0) => ReceiveMode::ReceiveAndDelete,
        None | Some(1) => ReceiveMode::PeekLock,
        Some(other) => return Err(wrong(format!("{other} is not a 'receiver-settle-mode'."))),
    };
    let receiver = caller.holder(session.as_ref());
    let entity = caller.entity.clone();
    let found = caller.host.receive_deferred(entity, receiver, session, mode, sequence_numbers).await?;
    let one = |delivery: &Delivery| {
        let token = delivery.lock.map_or(Uuid::nil(), |(token, _)| token.0);
        let token = Value::Simple(Simple::Uuid(token));
        Ok(map([("lock-token", token), ("message", encoded(delivery, true)?)]))
    };
    let messages: Vec<Value> = found.iter().map(one).collect::<Result<_, Fault>>()?;
    Ok((!messages.is_empty()).then(|| map([("messages", Value::List(messages))])))
}

pub(super) async fn settle(caller: &Caller, body: Body<'_>) -> Answer {
    let tokens = body.tokens()?;
    let session = body.session();
    let modify = body.0.get("properties-to-modify").map(modify).unwrap_or_default();
    let text = |key: &str| body.text(key).map(str::to_owned);
    let outcome = match body.needed("disposition-status")?.text().unwrap_or_default() {
        "completed" => Outcome::Complete,
        "abandoned" => Outcome::Abandon { modify },
        // As Service Bus spells it.
        "defered" | "deferred" => Outcome::Defer { modify },
        "suspended" => Outcome::DeadLetter {
            reason: text("deadletter-reason"),
            description: text("deadletter-description"),
            modify,
        },
        "unlocked" => Outcome::Release,
        other => return Err(wrong(format!("'{other}' is not a 'disposition-status'."))),
    };
    let receiver = caller.holder(session.as_ref());
    let settled = caller.host.settle(caller.entity.clone(), receiver, session, tokens, outcome).await?;
    settled.into_iter().collect::<Result<(), Fault>>()?;
    Ok(Some(map([])))
}

pub(super) async fn renew(caller: &Caller, body: Body<'_>) -> Answer {
    let times = caller.host.renew_locks(caller.entity.clone(), body.session(), body.tokens()?).await?;
    Ok(Some(map([("expirations", array(times, delivery::time))])))
}

pub(super) async fn schedule(caller: &Caller, body: Body<'_>) -> Answer {
    let raw = body.each("messages", |entry| entry.get("message").and_then(Value::binary).cloned())?;
    let messages = raw
        .into_iter()
        .map(message::read)
        .collect::<Result<_, _>>()
        .map_err(|malformed| wrong(format!("A message to schedule can't be read: {malformed}.")))?;
    let numbers = caller.host.schedule(caller.entity.clone(), messages).await?;
    Ok(Some(map([("sequence-numbers", array(numbers, Simple::Long))])))
}

pub(super) async fn cancel(caller: &Caller, body: Body<'_>) -> Answer {
    let sequence_numbers = body.sequence_numbers()?;
    let entity = caller.entity.clone();
    caller.host.apply(Input::CancelScheduled { entity, sequence_numbers }).await?;
    Ok(Some(map([])))
}

pub(super) async fn delete(caller: &Caller, body: Body<'_>) -> Answer {
    let max = body.count("message-count")?;
    let before = body.time("enqueued-time-utc").unwrap_or(Time::NEVER);
    let deleted = caller.host.delete_messages(caller.entity.clone(), body.session(), max, before).await?;
    let deleted = i32::try_from(deleted).unwrap_or(i32::MAX);
    Ok((deleted > 0).then(|| map([("message-count", Value::Simple(Simple::Int(deleted)))])))
}
