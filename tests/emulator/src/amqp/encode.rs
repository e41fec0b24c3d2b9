//! AMQP's types, written.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::value::Value;
use crate::model::Value as Simple;

/// Any value.
pub(super) fn value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Simple(it) => simple(out, it),
        Value::List(elements) => {
            let list = Open::new(out, 0xd0);
            elements.iter().for_each(|element| self::value(out, element));
            list.close(out, elements.len());
        }
        Value::Map(entries) => {
            let map = Open::new(out, 0xd1);
            for (key, it) in entries {
                self::value(out, key);
                self::value(out, it);
            }
            map.close(out, entries.len() * 2);
        }
        Value::Array(elements) => array(out, elements),
        Value::Described(described) => {
            out.put_u8(0);
            self::value(out, &described.0);
            self::value(out, &described.1);
        }
    }
}

/// A value that isn't made of others.
pub(super) fn simple(out: &mut BytesMut, value: &Simple) {
    match value {
        Simple::Null => out.put_u8(0x40),
        Simple::Bool(it) => out.put_u8(if *it { 0x41 } else { 0x42 }),
        Simple::UInt(it) => uint(out, *it),
        Simple::ULong(it) => ulong(out, *it),
        Simple::String(it) => string(out, it),
        Simple::Symbol(it) => symbol(out, it),
        Simple::Binary(it) => sized(out, 0xa0, it),
        // Encoded already, with its code.
        Simple::Opaque(it) => out.extend_from_slice(it),
        other => {
            out.put_u8(code(other));
            bare(out, other);
        }
    }
}

pub(super) fn uint(out: &mut BytesMut, number: u32) {
    match u8::try_from(number) {
        Ok(0) => out.put_u8(0x43),
        Ok(small) => out.extend_from_slice(&[0x52, small]),
        Err(_) => {
            out.put_u8(0x70);
            out.put_u32(number);
        }
    }
}

pub(super) fn ulong(out: &mut BytesMut, number: u64) {
    match u8::try_from(number) {
        Ok(0) => out.put_u8(0x44),
        Ok(small) => out.extend_from_slice(&[0x53, small]),
        Err(_) => {
            out.put_u8(0x80);
            out.put_u64(number);
        }
    }
}

pub(super) fn string(out: &mut BytesMut, text: &str) {
    sized(out, 0xa1, text.as_bytes());
}

pub(super) fn symbol(out: &mut BytesMut, text: &str) {
    sized(out, 0xa3, text.as_bytes());
}

pub(super) fn binary(out: &mut BytesMut, bytes: &[u8]) {
    sized(out, 0xa0, bytes);
}

fn sized(out: &mut BytesMut, code: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(short) => out.extend_from_slice(&[code, short]),
        Err(_) => {
            out.put_u8(code | 0x10);
            out.put_u32(length(bytes.len()));
        }
    }
    out.extend_from_slice(bytes);
}

/// Nothing here is that long: messages end at 100 MiB.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The constructor that all of a kind can have.
fn code(value: &Simple) -> u8 {
    match value {
        Simple::Null | Simple::Opaque(_) => 0x40,
        Simple::Bool(_) => 0x56,
        Simple::UByte(_) => 0x50,
        Simple::UShort(_) => 0x60,
        Simple::UInt(_) => 0x70,
        Simple::ULong(_) => 0x80,
        Simple::Byte(_) => 0x51,
        Simple::Short(_) => 0x61,
        Simple::Int(_) => 0x71,
        Simple::Long(_) => 0x81,
        Simple::Float(_) => 0x72,
        Simple::Double(_) => 0x82,
        Simple::Char(_) => 0x73,
        Simple::Timestamp(_) => 0x83,
        Simple::Uuid(_) => 0x98,
        Simple::Binary(_) => 0xb0,
        Simple::String(_) => 0xb1,
        Simple::Symbol(_) => 0xb3,
    }
}

/// The value behind that constructor.
fn bare(out: &mut BytesMut, value: &Simple) {
    match value {
        Simple::Null | Simple::Opaque(_) => {}
        Simple::Bool(it) => out.put_u8((*it).into()),
        Simple::UByte(it) => out.put_u8(*it),
        Simple::UShort(it) => out.put_u16(*it),
        Simple::UInt(it) => out.put_u32(*it),
        Simple::ULong(it) => out.put_u64(*it),
        Simple::Byte(it) => out.put_i8(*it),
        Simple::Short(it) => out.put_i16(*it),
        Simple::Int(it) => out.put_i32(*it),
        Simple::Long(it) | Simple::Timestamp(it) => out.put_i64(*it),
        Simple::Float(it) => out.put_f32(*it),
        Simple::Double(it) => out.put_f64(*it),
        Simple::Char(it) => out.put_u32((*it).into()),
        Simple::Uuid(it) => out.extend_from_slice(Uuid::as_bytes(it)),
        Simple::Binary(it) => long(out, it),
        Simple::String(it) | Simple::Symbol(it) => long(out, it.as_bytes()),
    }
}

fn long(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(length(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Values of one kind. Others make a list, which every client that takes an array takes, too.
fn array(out: &mut BytesMut, elements: &[Value]) {
    let kind = |element: &Value| match element {
        Value::Simple(Simple::Opaque(_)) => None,
        Value::Simple(it) => Some(code(it)),
        _ => None,
    };
    let Some(first) = elements.first() else {
        // An array has a constructor even where nothing is constructed.
        let open = Open::new(out, 0xf0);
        out.put_u8(0x40);
        return open.close(out, 0);
    };
    match kind(first) {
        Some(code) if elements.iter().all(|element| kind(element) == Some(code)) => {
            let open = Open::new(out, 0xf0);
            out.put_u8(code);
            for element in elements {
                if let Value::Simple(it) = element {
                    bare(out, it);
                }
            }
            open.close(out, elements.len());
        }
        _ => value(out, &Value::List(elements.to_vec())),
    }
}

/// A list, map or array whose size is known at its end.
#[derive(Debug)]
#[must_use = "it is closed at its end"]
pub(super) struct Open {
    size: usize,
}

impl Open {
    /// The code must be one with a size of four bytes.
    pub(super) fn new(out: &mut BytesMut, code: u8) -> Self {
        out.put_u8(code);
        let size = out.len();
        out.put_u64(0);
        Self { size }
    }

    pub(super) fn close(self, out: &mut BytesMut, count: usize) {
        let size = length(out.len() - self.size - 4);
        out[self.size..self.size + 4].copy_from_slice(&size.to_be_bytes());
        out[self.size + 4..self.size + 8].copy_from_slice(&length(count).to_be_bytes());
    }
}

/// A described list that is written field by field. Nulls at its end are left out.
#[derive(Debug)]
#[must_use = "it is closed at its end"]
pub(super) struct Composite {
    open: Open,
    count: usize,
    /// Length and count up to the last field that says something.
    kept: (usize, usize),
}

impl Composite {
    pub(super) fn new(out: &mut BytesMut, code: u8) -> Self {
        out.extend_from_slice(&[0, 0x53, code]);
        let open = Open::new(out, 0xd0);
        Self { open, count: 0, kept: (out.len(), 0) }
    }

    /// A field.
    pub(super) fn field(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> &mut Self {
        write(out);
        self.count += 1;
        self.kept = (out.len(), self.count);
        self
    }

    pub(super) fn null(&mut self, out: &mut BytesMut) -> &mut Self {
        out.put_u8(0x40);
        self.count += 1;
        self
    }

    pub(super) fn uint(&mut self, out: &mut BytesMut, number: u32) -> &mut Self {
        self.field(out, |out| uint(out, number))
    }

    pub(super) fn boolean(&mut self, out: &mut BytesMut, it: bool) -> &mut Self {
        self.field(out, |out| out.put_u8(if it { 0x41 } else { 0x42 }))
    }

    pub(super) fn value(&mut self, out: &mut BytesMut, it: &Value) -> &mut Self {
        if it.is_null() { self.null(out) } else { self.field(out, |out| value(out, it)) }
    }

    pub(super) fn close(&mut self, out: &mut BytesMut) {
        let (length, count) = self.kept;
        out.truncate(length);
        let open = Open { size: self.open.size };
        open.close(out, count);
    }
}
