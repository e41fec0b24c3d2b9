//! Values, read from what clients send. Lengths and counts are checked against what is there before anything is allocated
//! for them.

use bytes::Bytes;
use uuid::Uuid;

use super::value::{Malformed, Value, code_of};
use crate::model::Value as Simple;

/// How deep a value may be nested.
const DEEPEST: usize = 32;
/// Elements of arrays that take no bytes at all, in all that is read together.
const MOST_EMPTY: usize = 4096;
/// Bytes of an array's descriptor, which each of its elements gets a copy of.
const LONGEST_DESCRIPTOR: usize = 64;

/// Takes values from the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// How many elements that take no bytes may still come.
    empty: usize,
}

type Read<T> = Result<T, Malformed>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, empty: MOST_EMPTY }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn value(&mut self) -> Read<Value> {
        self.nested(0)
    }

    /// The bytes of the next value, undecoded.
    pub(super) fn span(&mut self) -> Read<&'a [u8]> {
        let before = self.rest;
        self.skip(0)?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    /// A described value's code, with the value next.
    pub(super) fn descriptor(&mut self) -> Read<u64> {
        match self.byte()? {
            0 => {}
            _ => return Err(Malformed("a described value was expected")),
        }
        let descriptor = self.value()?;
        let code = match descriptor.text() {
            Some(name) => code_of(name),
            None => descriptor.unsigned(),
        };
        code.ok_or(Malformed("a descriptor that nobody knows"))
    }

    /// A list's or a map's number of values, and a reader of them.
    pub(super) fn compound(&mut self) -> Read<(usize, Self)> {
        let code = self.byte()?;
        match code {
            0x40 | 0x45 => Ok((0, Self::new(&[]))),
            0xc0 | 0xc1 | 0xd0 | 0xd1 => self.inside(code),
            _ => Err(Malformed("a list or a map was expected")),
        }
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("a value breaks off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("a value breaks off"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Read<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// A length or a count, in one byte or in four.
    fn length(&mut self, wide: bool) -> Read<usize> {
        if wide {
            let length = u32::from_be_bytes(self.fixed()?);
            usize::try_from(length).map_err(|_| Malformed("a length beyond everything"))
        } else {
            self.byte().map(usize::from)
        }
    }

    fn sized(&mut self, wide: bool) -> Read<&'a [u8]> {
        let length = self.length(wide)?;
        self.take(length)
    }

    /// The inside of a list, map or array, whose code has been read.
    fn inside(&mut self, code: u8) -> Read<(usize, Self)> {
        let wide = code & 0x10 != 0;
        let mut inner = Self::new(self.sized(wide)?);
        let count = inner.length(wide)?;
        Ok((count, inner))
    }

    fn skip(&mut self, depth: usize) -> Read<()> {
        if depth > DEEPEST {
            return Err(Malformed("a value is nested too deeply"));
        }
        let code = self.byte()?;
        match code >> 4 {
            0x0 if code == 0 => {
                self.skip(depth + 1)?;
                self.skip(depth + 1)
            }
            0x4 => Ok(()),
            0x5 => self.take(1).map(drop),
            0x6 => self.take(2).map(drop),
            0x7 => self.take(4).map(drop),
            0x8 => self.take(8).map(drop),
            0x9 => self.take(16).map(drop),
            0xa | 0xc | 0xe => self.sized(false).map(drop),
            0xb | 0xd | 0xf => self.sized(true).map(drop),
            _ => Err(Malformed("a type that AMQP doesn't have")),
        }
    }

    fn nested(&mut self, depth: usize) -> Read<Value> {
        if depth > DEEPEST {
            return Err(Malformed("a value is nested too deeply"));
        }
        match self.byte()? {
            0 => {
                let descriptor = self.nested(depth + 1)?;
                let value = self.nested(depth + 1)?;
                Ok(Value::Described(Box::new((descriptor, value))))
            }
            code => self.typed(code, depth),
        }
    }

    fn typed(&mut self, code: u8, depth: usize) -> Read<Value> {
        let wide = code & 0x10 != 0;
        Ok(Value::Simple(match code {
            0x40 => Simple::Null,
            0x41 => Simple::Bool(true),
            0x42 => Simple::Bool(false),
            0x56 => Simple::Bool(self.byte()? != 0),
            0x43 => Simple::UInt(0),
            0x52 => Simple::UInt(self.byte()?.into()),
            0x70 => Simple::UInt(u32::from_be_bytes(self.fixed()?)),
            0x44 => Simple::ULong(0),
            0x53 => Simple::ULong(self.byte()?.into()),
            0x80 => Simple::ULong(u64::from_be_bytes(self.fixed()?)),
            0x50 => Simple::UByte(self.byte()?),
            0x60 => Simple::UShort(u16::from_be_bytes(self.fixed()?)),
            0x51 => Simple::Byte(i8::from_be_bytes(self.fixed()?)),
            0x61 => Simple::Short(i16::from_be_bytes(self.fixed()?)),
            0x54 => Simple::Int(i8::from_be_bytes(self.fixed()?).into()),
            0x71 => Simple::Int(i32::from_be_bytes(self.fixed()?)),
            0x55 => Simple::Long(i8::from_be_bytes(self.fixed()?).into()),
            0x81 => Simple::Long(i64::from_be_bytes(self.fixed()?)),
            0x72 => Simple::Float(f32::from_be_bytes(self.fixed()?)),
            0x82 => Simple::Double(f64::from_be_bytes(self.fixed()?)),
            0x73 => {
                let code = u32::from_be_bytes(self.fixed()?);
                Simple::Char(char::from_u32(code).ok_or(Malformed("a character that Unicode doesn't have"))?)
            }
            0x83 => Simple::Timestamp(i64::from_be_bytes(self.fixed()?)),
            0x98 => Simple::Uuid(Uuid::from_bytes(self.fixed()?)),
            0x74 | 0x84 | 0x94 => {
                let width = 1 << ((code >> 4) - 5);
                let mut encoded = vec![code];
                encoded.extend_from_slice(self.take(width)?);
                Simple::Opaque(encoded.into())
            }
            0xa0 | 0xb0 => Simple::Binary(Bytes::copy_from_slice(self.sized(wide)?)),
            0xa1 | 0xb1 => Simple::String(text(self.sized(wide)?)?),
            0xa3 | 0xb3 => Simple::Symbol(text(self.sized(wide)?)?),
            0x45 => return Ok(Value::List(Vec::new())),
            0xc0 | 0xd0 => {
                return self.compose(code, |inner, count| inner.many(count, depth)).map(Value::List);
            }
            0xc1 | 0xd1 => {
                return self.compose(code, |inner, count| inner.pairs(count, depth)).map(Value::Map);
            }
            0xe0 | 0xf0 => {
                return self.compose(code, |inner, count| inner.array(count, depth)).map(Value::Array);
            }
            _ => return Err(Malformed("a type that AMQP doesn't have")),
        }))
    }

    fn compose<T>(&mut self, code: u8, read: impl FnOnce(&mut Self, usize) -> Read<T>) -> Read<T> {
        let (count, mut inner) = self.inside(code)?;
        inner.empty = self.empty;
        let read = read(&mut inner, count);
        self.empty = inner.empty;
        read
    }

    fn many(&mut self, count: usize, depth: usize) -> Read<Vec<Value>> {
        // Each value takes a byte at least.
        if count > self.rest.len() {
            return Err(Malformed("a list has fewer values than it says"));
        }
        (0..count).map(|_| self.nested(depth + 1)).collect()
    }

    fn pairs(&mut self, count: usize, depth: usize) -> Read<Vec<(Value, Value)>> {
        if count > self.rest.len() || count % 2 == 1 {
            return Err(Malformed("a map has other values than it says"));
        }
        (0..count / 2).map(|_| Ok((self.nested(depth + 1)?, self.nested(depth + 1)?))).collect()
    }

    fn array(&mut self, count: usize, depth: usize) -> Read<Vec<Value>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut code = self.byte()?;
        let mut descriptor = None;
        if code == 0 {
            let before = self.rest.len();
            let found = self.nested(depth + 2)?;
            if !matches!(found, Value::Simple(_)) || before - self.rest.len() > LONGEST_DESCRIPTOR {
                return Err(Malformed("an array's descriptor is more than a name or a number"));
            }
            descriptor = Some(found);
            code = self.byte()?;
        }
        if code >> 4 == 4 {
            self.empty =
                self.empty.checked_sub(count).ok_or(Malformed("there are too many values of no bytes"))?;
        } else if count > self.rest.len() {
            return Err(Malformed("an array has fewer values than it says"));
        }
        // As deep as they would stand in a list, each with its own descriptor.
        let depth = depth + 1 + usize::from(descriptor.is_some());
        if depth > DEEPEST {
            return Err(Malformed("a value is nested too deeply"));
        }
        let one = |_| {
            let value = self.typed(code, depth)?;
            Ok(match &descriptor {
                Some(descriptor) => Value::Described(Box::new((descriptor.clone(), value))),
                None => value,
            })
        };
        (0..count).map(one).collect()
    }
}

fn text(bytes: &[u8]) -> Read<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed("a text is not UTF-8"))
}

#[cfg(test)]
mod tests;
