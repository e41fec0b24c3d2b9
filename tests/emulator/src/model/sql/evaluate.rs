//! What an expression says of a message. `None` is SQL's unknown, which NULL is, too.

use std::cmp::Ordering;

use uuid::Uuid;

use super::like::like;
use super::{Arithmetic, Comparison, Expression, Property};
use crate::model::{Message, Number, SystemProperty, Value};

/// Service Bus's FilterException: the expression makes no sense for this message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) struct Exception(pub(in crate::model) String);

/// What an expression is about.
pub(in crate::model) struct Subject<'a> {
    pub(in crate::model) message: &'a Message,
    pub(in crate::model) sequence_number: i64,
    /// Makes the ids of `newid()`.
    pub(in crate::model) new_id: &'a mut dyn FnMut() -> Uuid,
}

/// Service Bus's limit of one property.
const LONGEST_TEXT: usize = 32 * 1024;

type Found = Result<Option<Value>, Exception>;

fn exception<T>(text: impl Into<String>) -> Result<T, Exception> {
    Err(Exception(text.into()))
}

/// The expression as a condition.
pub(super) fn truth(expression: &Expression, subject: &mut Subject<'_>) -> Result<Option<bool>, Exception> {
    match expression {
        Expression::And(left, right) => Ok(match truth(left, subject)? {
            Some(false) => Some(false),
            left => match (left, truth(right, subject)?) {
                (_, Some(false)) => Some(false),
                (Some(true), right) => right,
                _ => None,
            },
        }),
        Expression::Or(left, right) => Ok(match truth(left, subject)? {
            Some(true) => Some(true),
            left => match (left, truth(right, subject)?) {
                (_, Some(true)) => Some(true),
                (Some(false), right) => right,
                _ => None,
            },
        }),
        Expression::Not(inner) => Ok(truth(inner, subject)?.map(|truth| !truth)),
        Expression::IsNull(inner) => Ok(Some(value(inner, subject)?.is_none())),
        Expression::Exists(property) => Ok(Some(look_up(property, subject)?.is_some())),
        Expression::Compare(comparison, left, right) => {
            let (left, right) = (value(left, subject)?, value(right, subject)?);
            Ok(left.zip(right).and_then(|(left, right)| compare(*comparison, &left, &right)))
        }
        Expression::In(left, choices) => {
            let Some(left) = value(left, subject)? else {
                return Ok(None);
            };
            let mut unknown = false;
            for choice in choices {
                match value(choice, subject)? {
                    Some(choice) if compare(Comparison::Equal, &left, &choice) == Some(true) => {
                        return Ok(Some(true));
                    }
                    Some(_) => {}
                    None => unknown = true,
                }
            }
            Ok(if unknown { None } else { Some(false) })
        }
        Expression::Like { text, pattern, escape } => {
            let text = value(text, subject)?;
            let pattern = value(pattern, subject)?;
            let escape = match escape {
                None => None,
                Some(escape) => match value(escape, subject)? {
                    None => return Ok(None),
                    Some(escape) => Some(single(&escape)?),
                },
            };
            let Some((text, pattern)) = text.zip(pattern) else {
                return Ok(None);
            };
            let Some((text, pattern)) = text.text().zip(pattern.text()) else {
                return exception("LIKE compares texts alone");
            };
            like(text, pattern, escape)
                .map(Some)
                .ok_or_else(|| Exception("nothing stands behind the escape character".to_owned()))
        }
        _ => match value(expression, subject)? {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(truth)),
            Some(_) => exception("a condition is neither true nor false"),
        },
    }
}

fn single(escape: &Value) -> Result<char, Exception> {
    let mut chars = escape.text().unwrap_or_default().chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => exception("ESCAPE takes one character"),
    }
}

/// The expression's value.
pub(super) fn value(expression: &Expression, subject: &mut Subject<'_>) -> Found {
    match expression {
        Expression::Constant(Value::Null) => Ok(None),
        Expression::Constant(constant) => Ok(Some(constant.clone())),
        Expression::Property(property) => {
            Ok(look_up(property, subject)?.filter(|value| *value != Value::Null))
        }
        Expression::NewId => Ok(Some(Value::Uuid((subject.new_id)()))),
        Expression::Positive(inner) => match value(inner, subject)? {
            None => Ok(None),
            Some(value) => value.number().map(number).map(Some).ok_or_else(|| no_number("+")),
        },
        Expression::Negative(inner) => match value(inner, subject)? {
            None => Ok(None),
            Some(value) => match value.number() {
                Some(Number::Integer(n)) => n.checked_neg().map(Value::Long).map(Some).ok_or_else(too_large),
                Some(Number::Double(n)) => Ok(Some(Value::Double(-n))),
                None => Err(no_number("-")),
            },
        },
        Expression::Arithmetic(operator, left, right) => {
            let (left, right) = (value(left, subject)?, value(right, subject)?);
            left.zip(right).map(|(left, right)| calculate(*operator, &left, &right)).transpose()
        }
        _ => Ok(truth(expression, subject)?.map(Value::Bool)),
    }
}

fn no_number(sign: &str) -> Exception {
    Exception(format!("`{sign}` stands before or behind something that is no number"))
}

fn too_large() -> Exception {
    Exception("a number gets too large".to_owned())
}

fn number(number: Number) -> Value {
    match number {
        Number::Integer(n) => Value::Long(n),
        Number::Double(n) => Value::Double(n),
    }
}

#[expect(clippy::cast_precision_loss, reason = "C# promotes a long to a double the same way")]
fn double(number: Number) -> f64 {
    match number {
        Number::Integer(n) => n as f64,
        Number::Double(n) => n,
    }
}

fn calculate(operator: Arithmetic, left: &Value, right: &Value) -> Result<Value, Exception> {
    if let (Arithmetic::Add, Some(left), Some(right)) = (operator, left.text(), right.text()) {
        // An action that doubles a text 32 times must not fill the memory.
        if left.len() + right.len() > LONGEST_TEXT {
            return exception(format!("a text gets longer than {LONGEST_TEXT} bytes"));
        }
        return Ok(Value::String(format!("{left}{right}")));
    }
    let sign = match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    };
    let (left, right) = left.number().zip(right.number()).ok_or_else(|| no_number(sign))?;
    if let (Number::Integer(left), Number::Integer(right)) = (left, right) {
        if right == 0 && matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) {
            return exception("a number is divided by zero");
        }
        let result = match operator {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Remainder => left.checked_rem(right),
        };
        return result.map(Value::Long).ok_or_else(too_large);
    }
    let (left, right) = (double(left), double(right));
    Ok(Value::Double(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    }))
}

/// Unknown where two values have no order.
fn compare(comparison: Comparison, left: &Value, right: &Value) -> Option<bool> {
    let order = order(left, right);
    match comparison {
        Comparison::Equal => Some(order.map_or(left == right, Ordering::is_eq)),
        Comparison::Unequal => Some(order.map_or(left != right, Ordering::is_ne)),
        Comparison::Less => order.map(Ordering::is_lt),
        Comparison::LessOrEqual => order.map(Ordering::is_le),
        Comparison::Greater => order.map(Ordering::is_gt),
        Comparison::GreaterOrEqual => order.map(Ordering::is_ge),
    }
}

/// How two values stand to each other, types aside where C# would promote one to the other.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (left.number(), right.number()) {
        return match (left, right) {
            (Number::Integer(left), Number::Integer(right)) => Some(left.cmp(&right)),
            _ => double(left).partial_cmp(&double(right)),
        };
    }
    if let (Some(left), Some(right)) = (left.text(), right.text()) {
        return Some(left.cmp(right));
    }
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
        (Value::Char(left), Value::Char(right)) => Some(left.cmp(right)),
        (Value::Uuid(left), Value::Uuid(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// Whether a correlation filter's value is a property's: the types may differ as in SQL.
pub(in crate::model) fn equal(left: &Value, right: &Value) -> bool {
    compare(Comparison::Equal, left, right) == Some(true)
}

/// The system property of that name.
pub(super) fn system(name: &str) -> Option<SystemProperty> {
    Some(match name.to_ascii_lowercase().as_str() {
        "messageid" => SystemProperty::MessageId,
        "correlationid" => SystemProperty::CorrelationId,
        "sessionid" => SystemProperty::SessionId,
        "replytosessionid" => SystemProperty::ReplyToSessionId,
        "partitionkey" => SystemProperty::PartitionKey,
        "label" | "subject" => SystemProperty::Subject,
        "to" => SystemProperty::To,
        "replyto" => SystemProperty::ReplyTo,
        "contenttype" => SystemProperty::ContentType,
        _ => return None,
    })
}

fn look_up(property: &Property, subject: &Subject<'_>) -> Found {
    let message = subject.message;
    match property {
        Property::User(name) => Ok(user(message, name).map(|(_, value)| value.clone())),
        Property::System(name) => {
            if let Some(property) = system(name) {
                return Ok(message.properties.get(property).map(|text| Value::String(text.to_owned())));
            }
            match name.to_ascii_lowercase().as_str() {
                "sequencenumber" | "enqueuedsequencenumber" => Ok(Some(Value::Long(subject.sequence_number))),
                "size" => Ok(Some(Value::Long(i64::try_from(message.raw.len()).unwrap_or(i64::MAX)))),
                "timetolive" => Ok(message.time_to_live.map(|span| Value::Long(saturate(span.0)))),
                "scheduledenqueuetimeutc" => {
                    Ok(message.scheduled_enqueue_time.map(|time| Value::Timestamp(saturate(time.0))))
                }
                _ => exception(format!("there is no system property `{name}`")),
            }
        }
    }
}

fn saturate(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An application property: names don't differ by case.
pub(super) fn user<'m>(message: &'m Message, name: &str) -> Option<(&'m String, &'m Value)> {
    message
        .application
        .get_key_value(name)
        .or_else(|| message.application.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
}
