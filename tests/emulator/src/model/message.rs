//! Messages as the broker sees them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Span, Time};

/// An AMQP primitive, as it stands in application properties. Types are kept, so that they travel untouched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the AMQP type of its name")]
pub enum Value {
    Null,
    Bool(bool),
    UByte(u8),
    UShort(u16),
    UInt(u32),
    ULong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Char(char),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid(Uuid),
    Binary(Bytes),
    String(String),
    Symbol(String),
    /// Anything else (decimals, lists, maps), encoded: equal to itself alone, and never less or greater.
    Opaque(Bytes),
}

/// What filters and actions calculate with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// SQL's and C#'s long.
    Integer(i64),
    /// SQL's and C#'s double.
    Double(f64),
}

impl Value {
    /// The number that the value is, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<Number> {
        Some(match *self {
            Self::UByte(n) => Number::Integer(n.into()),
            Self::UShort(n) => Number::Integer(n.into()),
            Self::UInt(n) => Number::Integer(n.into()),
            #[expect(clippy::cast_precision_loss, reason = "beyond a long only a double is left")]
            Self::ULong(n) => i64::try_from(n).map_or(Number::Double(n as f64), Number::Integer),
            Self::Byte(n) => Number::Integer(n.into()),
            Self::Short(n) => Number::Integer(n.into()),
            Self::Int(n) => Number::Integer(n.into()),
            Self::Long(n) => Number::Integer(n),
            Self::Float(n) => Number::Double(n.into()),
            Self::Double(n) => Number::Double(n),
            _ => return None,
        })
    }

    /// The text that the value is, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }
}

/// The names of [`Properties`]' fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see the fields of `Properties`")]
pub enum SystemProperty {
    MessageId,
    CorrelationId,
    SessionId,
    ReplyToSessionId,
    PartitionKey,
    Subject,
    To,
    ReplyTo,
    ContentType,
}

/// What the broker looks at outside of application properties. An id that isn't a string on the wire stands here as
/// text: a uuid hyphenated and in lower case, a ulong in decimals, binary in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Assigned by the model when absent.
    pub message_id: Option<String>,
    /// `correlation-id`
    pub correlation_id: Option<String>,
    /// `group-id`
    pub session_id: Option<String>,
    /// `reply-to-group-id`
    pub reply_to_session_id: Option<String>,
    /// The annotation `x-opt-partition-key`.
    pub partition_key: Option<String>,
    /// `subject`, which Service Bus also calls label.
    pub subject: Option<String>,
    /// `to`
    pub to: Option<String>,
    /// `reply-to`
    pub reply_to: Option<String>,
    /// `content-type`
    pub content_type: Option<String>,
}

impl Properties {
    /// The field of that name.
    #[must_use]
    pub fn get(&self, property: SystemProperty) -> Option<&str> {
        match property {
            SystemProperty::MessageId => &self.message_id,
            SystemProperty::CorrelationId => &self.correlation_id,
            SystemProperty::SessionId => &self.session_id,
            SystemProperty::ReplyToSessionId => &self.reply_to_session_id,
            SystemProperty::PartitionKey => &self.partition_key,
            SystemProperty::Subject => &self.subject,
            SystemProperty::To => &self.to,
            SystemProperty::ReplyTo => &self.reply_to,
            SystemProperty::ContentType => &self.content_type,
        }
        .as_deref()
    }

    fn get_mut(&mut self, property: SystemProperty) -> &mut Option<String> {
        match property {
            SystemProperty::MessageId => &mut self.message_id,
            SystemProperty::CorrelationId => &mut self.correlation_id,
            SystemProperty::SessionId => &mut self.session_id,
            SystemProperty::ReplyToSessionId => &mut self.reply_to_session_id,
            SystemProperty::PartitionKey => &mut self.partition_key,
            SystemProperty::Subject => &mut self.subject,
            SystemProperty::To => &mut self.to,
            SystemProperty::ReplyTo => &mut self.reply_to,
            SystemProperty::ContentType => &mut self.content_type,
        }
    }
}

/// A message: what the broker looks at, and the rest as it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The system properties.
    pub properties: Properties,
    /// Application properties by name.
    pub application: BTreeMap<String, Value>,
    /// `header.ttl`
    pub time_to_live: Option<Span>,
    /// The annotation `x-opt-scheduled-enqueue-time`.
    pub scheduled_enqueue_time: Option<Time>,
    /// The encoded sections as the door received them. The model never looks inside: it only counts the bytes.
    pub raw: Bytes,
    /// System properties that the broker gave another value than `raw` has: a door that encodes the message takes
    /// these from `properties` (absent there: leave it out), and everything else untouched from `raw`.
    pub changed_properties: BTreeSet<SystemProperty>,
    /// The same for application properties.
    pub changed_application: BTreeSet<String>,
}

impl Message {
    /// Gives a system property another value, or none.
    pub fn set_property(&mut self, property: SystemProperty, value: Option<String>) {
        *self.properties.get_mut(property) = value;
        self.changed_properties.insert(property);
    }

    /// Gives an application property another value, or takes it away.
    pub fn set_application(&mut self, name: &str, value: Option<Value>) {
        match value {
            Some(value) => self.application.insert(name.to_owned(), value),
            None => self.application.remove(name),
        };
        self.changed_application.insert(name.to_owned());
    }

    /// Whether `raw` alone still says everything.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.changed_properties.is_empty() && self.changed_application.is_empty()
    }
}
