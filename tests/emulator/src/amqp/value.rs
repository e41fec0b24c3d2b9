//! AMQP's types.

use bytes::Bytes;
use uuid::Uuid;

use crate::model::Value as Simple;

/// What isn't AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Any value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Simple(Simple),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Array(Vec<Self>),
    Described(Box<(Self, Self)>),
}

impl Value {
    pub(super) const NULL: Self = Self::Simple(Simple::Null);

    pub(super) fn string(text: impl Into<String>) -> Self {
        Self::Simple(Simple::String(text.into()))
    }

    pub(super) fn symbol(text: impl Into<String>) -> Self {
        Self::Simple(Simple::Symbol(text.into()))
    }

    pub(super) fn described(code: u64, value: Self) -> Self {
        Self::Described(Box::new((Self::Simple(Simple::ULong(code)), value)))
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Self::NULL
    }

    /// The value without its descriptors.
    pub(super) fn plain(&self) -> &Self {
        let mut value = self;
        while let Self::Described(described) = value {
            value = &described.1;
        }
        value
    }

    /// The number that describes it.
    pub(super) fn code(&self) -> Option<u64> {
        let Self::Described(described) = self else { return None };
        match described.0.text() {
            Some(name) => code_of(name),
            None => described.0.unsigned(),
        }
    }

    pub(super) fn simple(&self) -> Option<&Simple> {
        match self.plain() {
            Self::Simple(simple) => Some(simple),
            _ => None,
        }
    }

    /// A string or a symbol; many clients take the one for the other.
    pub(super) fn text(&self) -> Option<&str> {
        self.simple().and_then(Simple::text)
    }

    /// A whole number of any width, or a timestamp.
    pub(super) fn integer(&self) -> Option<i64> {
        Some(match *self.simple()? {
            Simple::UByte(n) => n.into(),
            Simple::UShort(n) => n.into(),
            Simple::UInt(n) => n.into(),
            Simple::ULong(n) => i64::try_from(n).ok()?,
            Simple::Byte(n) => n.into(),
            Simple::Short(n) => n.into(),
            Simple::Int(n) => n.into(),
            Simple::Long(n) | Simple::Timestamp(n) => n,
            _ => return None,
        })
    }

    pub(super) fn unsigned(&self) -> Option<u64> {
        match *self.simple()? {
            Simple::ULong(n) => Some(n),
            _ => self.integer()?.try_into().ok(),
        }
    }

    pub(super) fn u32(&self) -> Option<u32> {
        self.unsigned()?.try_into().ok()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match *self.simple()? {
            Simple::Bool(it) => Some(it),
            _ => None,
        }
    }

    pub(super) fn binary(&self) -> Option<&Bytes> {
        match self.simple()? {
            Simple::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn uuid(&self) -> Option<Uuid> {
        match self.simple()? {
            Simple::Uuid(uuid) => Some(*uuid),
            Simple::Binary(bytes) => Uuid::from_slice(bytes).ok(),
            Simple::String(text) | Simple::Symbol(text) => Uuid::parse_str(text).ok(),
            _ => None,
        }
    }

    /// The elements of a list or an array.
    pub(super) fn elements(&self) -> Option<&[Self]> {
        match self.plain() {
            Self::List(elements) | Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> Option<&[(Self, Self)]> {
        match self.plain() {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// A map's value, where it isn't null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries()?.iter().find(|(known, _)| known.text() == Some(key))?;
        Some(&entry.1).filter(|value| !value.is_null())
    }

    /// A list's field, where it is there and isn't null.
    pub(super) fn field(&self, index: usize) -> Option<&Self> {
        self.elements()?.get(index).filter(|value| !value.is_null())
    }
}

/// The descriptors that some clients write as names.
pub(super) fn code_of(name: &str) -> Option<u64> {
    Some(match name {
        "amqp:received:list" => 0x23,
        "amqp:accepted:list" => 0x24,
        "amqp:rejected:list" => 0x25,
        "amqp:released:list" => 0x26,
        "amqp:modified:list" => 0x27,
        "amqp:source:list" => 0x28,
        "amqp:target:list" => 0x29,
        "amqp:coordinator:list" => 0x30,
        "amqp:header:list" => 0x70,
        "amqp:delivery-annotations:map" => 0x71,
        "amqp:message-annotations:map" => 0x72,
        "amqp:properties:list" => 0x73,
        "amqp:application-properties:map" => 0x74,
        "amqp:data:binary" => 0x75,
        "amqp:amqp-sequence:list" => 0x76,
        "amqp:amqp-value:*" => 0x77,
        "amqp:footer:map" => 0x78,
        _ => return None,
    })
}
