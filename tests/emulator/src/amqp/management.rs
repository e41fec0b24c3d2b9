//! `$management`: what needs an answer and has no link of its own.

mod messages;
mod rules;
mod sessions;

use super::message::Request;
use super::nodes::{MANAGEMENT, Reply};
use super::value::Value;
use crate::host::Host;
use crate::model::{Condition, EntityPath, Fault, LockToken, ReceiverId, Time, Value as Simple};

/// Who asks, and where.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) host: Host,
    pub(super) entity: EntityPath,
    /// That of the link that the request names.
    pub(super) receiver: Option<ReceiverId>,
}

/// The answer's map, or none where there is nothing.
type Answer = Result<Option<Value>, Fault>;

pub(super) async fn answer(caller: &Caller, request: &Request) -> Reply {
    let operation = request.property("operation").unwrap_or_default();
    let body = Body(&request.body);
    let answered = match operation.strip_prefix("com.microsoft:").unwrap_or_default() {
        "peek-message" => messages::peek(caller, body),
        "receive-by-sequence-number" => messages::receive_deferred(caller, body).await,
        "update-disposition" => messages::settle(caller, body).await,
        "renew-lock" => messages::renew(caller, body).await,
        "schedule-message" => messages::schedule(caller, body).await,
        "cancel-scheduled-message" => messages::cancel(caller, body).await,
        "batch-delete-messages" => messages::delete(caller, body).await,
        "renew-session-lock" => sessions::renew(caller, body).await,
        "set-session-state" => sessions::set_state(caller, body).await,
        "get-session-state" => sessions::state(caller, body),
        "get-message-sessions" => sessions::list(caller, body),
        "add-rule" => rules::add(caller, body).await,
        "remove-rule" => rules::remove(caller, body).await,
        "enumerate-rules" => rules::list(caller, body),
        _ => {
            let text = format!("The operation '{operation}' is not supported here.");
            return reply(501, text, Some("amqp:not-implemented"), Value::NULL);
        }
    };
    match answered {
        Ok(Some(body)) => reply(200, "OK", None, body),
        Ok(None) => reply(204, "No Content", None, Value::NULL),
        Err(fault) => reply(fault.status(), fault.text, Some(fault.condition.symbol()), Value::NULL),
    }
}

fn reply(status: u16, text: impl Into<String>, condition: Option<&'static str>, body: Value) -> Reply {
    Reply { names: MANAGEMENT, status, text: text.into(), condition, body }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Value::string(key), value)).collect())
}

fn array<T>(items: impl IntoIterator<Item = T>, one: impl Fn(T) -> Simple) -> Value {
    Value::Array(items.into_iter().map(|item| Value::Simple(one(item))).collect())
}

/// A request's map.
#[derive(Clone, Copy, Debug)]
struct Body<'a>(&'a Value);

impl<'a> Body<'a> {
    fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(Value::text)
    }

    fn needed(self, key: &str) -> Result<&'a Value, Fault> {
        self.0.get(key).ok_or_else(|| wrong(format!("The request has no '{key}'.")))
    }

    fn number(self, key: &str) -> Result<i64, Fault> {
        let number = self.needed(key)?.integer();
        number.ok_or_else(|| wrong(format!("The request's '{key}' is not a whole number.")))
    }

    /// How many, where what doesn't fit is as many as possible.
    fn count(self, key: &str) -> Result<u32, Fault> {
        let number = self.number(key)?;
        if number < 0 {
            let text = format!("The request's '{key}' is negative.");
            return Err(Fault::new(Condition::ArgumentOutOfRange, text));
        }
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The session, which may be the one without a name.
    fn session(self) -> Option<String> {
        self.text("session-id").map(str::to_owned)
    }

    fn needed_session(self) -> Result<String, Fault> {
        let id = self.needed("session-id")?.text();
        id.map(str::to_owned).ok_or_else(|| wrong("The request's 'session-id' is not a string."))
    }

    /// A list or an array, of which each is something.
    fn each<T>(self, key: &str, one: impl Fn(&'a Value) -> Option<T>) -> Result<Vec<T>, Fault> {
        let found = self.needed(key)?.elements().and_then(|all| all.iter().map(one).collect());
        found.ok_or_else(|| wrong(format!("The request's '{key}' is not a list of what it should be.")))
    }

    fn tokens(self) -> Result<Vec<LockToken>, Fault> {
        self.each("lock-tokens", |value| value.uuid().map(LockToken))
    }

    fn sequence_numbers(self) -> Result<Vec<i64>, Fault> {
        let numbers = self.each("sequence-numbers", Value::integer)?;
        if numbers.len() > MOST_NUMBERS {
            let text = format!("A request has at most {MOST_NUMBERS} sequence numbers.");
            return Err(Fault::new(Condition::ArgumentOutOfRange, text));
        }
        Ok(numbers)
    }

    fn time(self, key: &str) -> Option<Time> {
        let milliseconds = self.0.get(key).and_then(Value::integer)?;
        Some(Time(u64::try_from(milliseconds).unwrap_or_default()))
    }
}

/// Their messages come in one answer.
const MOST_NUMBERS: usize = 1000;

fn wrong(text: impl Into<String>) -> Fault {
    Fault::new(Condition::ArgumentError, text)
}
