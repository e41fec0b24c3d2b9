//! `SET name = value; REMOVE name`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::evaluate::{self, Exception, Subject};
use super::parser::Parser;
use super::{Expression, Property, STATEMENTS};
use crate::model::{Message, Value};

/// A parsed action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::model) struct Action(Vec<Statement>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Statement {
    Set(Property, Expression),
    Remove(Property),
}

/// Set without effect, as Service Bus documents it, or because the broker alone decides.
const IGNORED: [&str; 1] = ["scheduledenqueuetimeutc"];

impl Action {
    pub(in crate::model) fn parse(text: &str, parameters: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut parser = Parser::new(text, parameters)?;
        let mut statements = Vec::new();
        loop {
            if parser.word("set") {
                let property = settable(parser.property()?)?;
                parser.expect_sign("=")?;
                statements.push(Statement::Set(property, parser.sum()?));
            } else if parser.word("remove") {
                statements.push(Statement::Remove(settable(parser.property()?)?));
            } else {
                return Err(parser.unexpected("SET or REMOVE"));
            }
            let more = parser.sign(";");
            if parser.peek().is_none() {
                break;
            }
            if !more {
                return Err(parser.unexpected("`;` or the end"));
            }
        }
        if statements.len() > STATEMENTS {
            return Err(format!("an action has at most {STATEMENTS} statements"));
        }
        Ok(Self(statements))
    }

    /// Carries the statements out in order: each sees what those before it did.
    pub(in crate::model) fn run(
        &self,
        message: &mut Message,
        sequence_number: i64,
        new_id: &mut dyn FnMut() -> Uuid,
    ) -> Result<(), Exception> {
        for statement in &self.0 {
            let (property, value) = match statement {
                Statement::Remove(property) => (property, None),
                Statement::Set(property, expression) => {
                    let mut subject = Subject { message, sequence_number, new_id: &mut *new_id };
                    (property, Some(evaluate::value(expression, &mut subject)?.unwrap_or(Value::Null)))
                }
            };
            match property {
                Property::User(name) => {
                    // An existing name keeps its spelling.
                    let name = evaluate::user(message, name).map_or(name, |(key, _)| key).clone();
                    message.set_application(&name, value);
                }
                Property::System(name) => {
                    if let Some(property) = evaluate::system(name) {
                        message.set_property(property, value.and_then(text));
                    }
                }
            }
        }
        Ok(())
    }
}

fn settable(property: Property) -> Result<Property, String> {
    match &property {
        Property::System(name)
            if evaluate::system(name).is_none()
                && !IGNORED.iter().any(|other| name.eq_ignore_ascii_case(other)) =>
        {
            Err(format!("the system property `{name}` cannot be set or removed"))
        }
        _ => Ok(property),
    }
}

/// System properties are texts.
fn text(value: Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) | Value::Symbol(text) => text,
        Value::Bool(truth) => truth.to_string(),
        Value::Long(n) | Value::Timestamp(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Uuid(id) => id.to_string(),
        Value::Char(c) => c.to_string(),
        other => match other.number() {
            Some(crate::model::Number::Integer(n)) => n.to_string(),
            Some(crate::model::Number::Double(n)) => n.to_string(),
            None => return None,
        },
    })
}
