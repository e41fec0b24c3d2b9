//! What `tests/fuzz` reaches of the SQL dialect. Compiled in only with the feature `__fuzzing`.

use std::collections::BTreeMap;

use super::Message;
use super::Value;
use super::sql::{Action, Condition, Subject};

/// Whether a condition holds for a message; the inner error is a condition that makes no sense for it.
///
/// # Errors
/// Why it is no condition.
pub fn holds(text: &str, message: &Message) -> Result<Result<bool, String>, String> {
    let condition = Condition::parse(text, &parameters())?;
    let stored: Condition = postcard::to_stdvec(&condition)
        .and_then(|bytes| postcard::from_bytes(&bytes))
        .map_err(|error| error.to_string())?;
    // As text, since a number that is none equals nothing.
    assert_eq!(format!("{stored:?}"), format!("{condition:?}"), "the journal keeps what was said");
    let mut new_id = uuid::Uuid::nil;
    let mut subject = Subject { message, sequence_number: 7, new_id: &mut new_id };
    Ok(condition.holds(&mut subject).map_err(|exception| exception.0))
}

/// Runs an action on a message; the inner error is one that makes no sense for it.
///
/// # Errors
/// Why it is no action.
pub fn run(text: &str, message: &mut Message) -> Result<Result<(), String>, String> {
    let action = Action::parse(text, &parameters())?;
    let ran = action.run(message, 7, &mut uuid::Uuid::nil);
    Ok(ran.map_err(|exception| exception.0))
}

fn parameters() -> BTreeMap<String, Value> {
    BTreeMap::from([("@limit".to_owned(), Value::Int(5)), ("name".to_owned(), Value::Null)])
}
