//! The locks and states of sessions.

use bytes::Bytes;

use super::super::delivery::time;
use super::super::value::Value;
use super::{Answer, Body, Caller, array, map, wrong};
use crate::model::{Time, Value as Simple};

/// .NET's last moment: clients that want all sessions ask for those since then.
const LAST: Time = Time(253_402_300_799_999);

pub(super) async fn renew(caller: &Caller, body: Body<'_>) -> Answer {
    let session = body.needed_session()?;
    let until = caller.host.renew_session(caller.entity.clone(), caller.receiver, session).await?;
    Ok(Some(map([("expiration", Value::Simple(time(until)))])))
}

pub(super) async fn set_state(caller: &Caller, body: Body<'_>) -> Answer {
    let session = body.needed_session()?;
    let state = match body.0.get("session-state").and_then(Value::simple) {
        None => None,
        Some(Simple::Binary(state)) => Some(state.clone()),
        Some(Simple::String(state)) => Some(Bytes::copy_from_slice(state.as_bytes())),
        Some(_) => return Err(wrong("The request's 'session-state' is not binary.")),
    };
    caller.host.set_session_state(caller.entity.clone(), caller.receiver, session, state).await?;
    Ok(Some(map([])))
}

pub(super) fn state(caller: &Caller, body: Body<'_>) -> Answer {
    let session = body.needed_session()?;
    let state =
        caller.host.read(|model, _| model.session_state(&caller.entity, caller.receiver, &session))?;
    let state = state.map_or(Value::NULL, |state| Value::Simple(Simple::Binary(state)));
    Ok(Some(map([("session-state", state)])))
}

pub(super) fn list(caller: &Caller, body: Body<'_>) -> Answer {
    let since = body.time("last-updated-time").filter(|since| *since < LAST);
    let (skip, top) = (body.count("skip")?, body.count("top")?);
    let found = caller.host.read(|model, _| model.sessions(&caller.entity, since, skip, top))?;
    if found.is_empty() {
        return Ok(None);
    }
    let next = skip.saturating_add(u32::try_from(found.len()).unwrap_or(u32::MAX));
    let next = Simple::Int(i32::try_from(next).unwrap_or(i32::MAX));
    Ok(Some(map([("skip", Value::Simple(next)), ("sessions-ids", array(found, Simple::String))])))
}
