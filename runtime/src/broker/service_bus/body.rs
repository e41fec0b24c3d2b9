//! The value that is a message's body, where its sender wrote one instead of bytes.

use std::fmt;

use fe2o3_amqp::types::primitives::{SimpleValue, Symbol};
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, VariantAccess, Visitor};
use serde_amqp::__constants::VALUE;

/// A value that isn't made of others. Reading one that is takes a stack as deep as its sender likes, so that one message
/// would end this process, and every other that it came to; and no event is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plain(pub(super) SimpleValue);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum(VALUE, &[], PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that isn't made of others")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Plain, A::Error> {
        let (Code(code), value) = data.variant()?;
        Ok(Plain(match code {
            0x40 => value.newtype_variant::<()>().map(|()| SimpleValue::Null)?,
            0x41 | 0x42 | 0x56 => value.newtype_variant().map(SimpleValue::Bool)?,
            0x50 => value.newtype_variant().map(SimpleValue::Ubyte)?,
            0x60 => value.newtype_variant().map(SimpleValue::Ushort)?,
            0x43 | 0x52 | 0x70 => value.newtype_variant().map(SimpleValue::Uint)?,
            0x44 | 0x53 | 0x80 => value.newtype_variant().map(SimpleValue::Ulong)?,
            0x51 => value.newtype_variant().map(SimpleValue::Byte)?,
            0x61 => value.newtype_variant().map(SimpleValue::Short)?,
            0x54 | 0x71 => value.newtype_variant().map(SimpleValue::Int)?,
            0x55 | 0x81 => value.newtype_variant().map(SimpleValue::Long)?,
            0x72 => value.newtype_variant::<f32>().map(|float| SimpleValue::Float(float.into()))?,
            0x82 => value.newtype_variant::<f64>().map(|float| SimpleValue::Double(float.into()))?,
            0x73 => value.newtype_variant().map(SimpleValue::Char)?,
            0x83 => value.newtype_variant().map(SimpleValue::Timestamp)?,
            0x98 => value.newtype_variant().map(SimpleValue::Uuid)?,
            0xa0 | 0xb0 => value.newtype_variant().map(SimpleValue::Binary)?,
            0xa1 | 0xb1 => value.newtype_variant().map(SimpleValue::String)?,
            0xa3 | 0xb3 => value.newtype_variant::<Symbol>().map(SimpleValue::Symbol)?,
            other => {
                let text = format!("its body is a value of the type {other:#04x}: an event is bytes or text");
                return Err(A::Error::custom(text));
            }
        }))
    }
}

/// A value's format code.
struct Code(u8);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CodeVisitor;

        impl Visitor<'_> for CodeVisitor {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a format code")
            }

            fn visit_u8<E>(self, code: u8) -> Result<Code, E> {
                Ok(Code(code))
            }
        }

        deserializer.deserialize_identifier(CodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::Body;
    use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
    use serde_amqp::read::SliceReader;

    use super::*;

    fn read(section: &[u8], value: &[u8]) -> Result<Body<Plain>, serde_amqp::Error> {
        let bytes = [section, value].concat();
        Body::<Plain>::decode_message_from_reader(SliceReader::new(&bytes)).map(|message| message.body)
    }

    #[test]
    fn every_simple_value_is_read() {
        let values = [
            SimpleValue::Null,
            SimpleValue::Bool(true),
            SimpleValue::Ubyte(1),
            SimpleValue::Ushort(2),
            SimpleValue::Uint(0),
            SimpleValue::Uint(3),
            SimpleValue::Uint(300),
            SimpleValue::Ulong(0),
            SimpleValue::Ulong(u64::MAX),
            SimpleValue::Byte(-1),
            SimpleValue::Short(-2),
            SimpleValue::Int(-3),
            SimpleValue::Int(i32::MIN),
            SimpleValue::Long(-4),
            SimpleValue::Long(i64::MIN),
            SimpleValue::Float(1.5.into()),
            SimpleValue::Double(2.5.into()),
            SimpleValue::Char('\u{1f600}'),
            SimpleValue::Timestamp(7.into()),
            SimpleValue::Uuid([7; 16].into()),
            SimpleValue::Binary(vec![1, 2].into()),
            SimpleValue::String("Grüße".repeat(100)),
            SimpleValue::Symbol(Symbol::from("symbol")),
        ];
        for value in values {
            let body = read(&[0, 0x53, 0x77], &serde_amqp::to_vec(&value).unwrap()).unwrap();
            let Body::Value(found) = body else { panic!("{body:?}") };
            assert_eq!(found.0, Plain(value));
        }
    }

    #[test]
    fn one_as_deep_as_its_sender_likes_is_refused() {
        let lists = |depth: u32| {
            let heads = (0..depth).rev();
            let heads =
                heads.map(|inside| [&[0xd0][..], &(9 * inside + 5).to_be_bytes(), &[0, 0, 0, 1]].concat());
            [heads.collect::<Vec<_>>().concat(), vec![0x45]].concat()
        };
        let described = [&[0, 0x53, 1].repeat(100_000)[..], &[0x40]].concat();
        for value in [lists(1), lists(100_000), described, vec![0xc1, 1, 0], vec![0xe0, 2, 0, 0x40]] {
            let error = read(&[0, 0x53, 0x77], &value).unwrap_err().to_string();
            assert!(error.contains("an event is bytes or text"), "{error}");
            let size = u32::try_from(value.len() + 4).unwrap().to_be_bytes();
            let sequence = [&[0, 0x53, 0x76, 0xd0][..], &size, &[0, 0, 0, 1]].concat();
            assert!(read(&sequence, &value).is_err());
        }
    }
}
