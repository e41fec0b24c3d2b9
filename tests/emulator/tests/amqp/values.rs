//! Values as `serde_amqp` has them: made, and taken apart.

use serde_amqp::Value;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::{Array, OrderedMap, Symbol};
use serde_bytes::ByteBuf;

/// An error's condition. All three fields of an error are there, always.
#[track_caller]
pub(crate) fn condition(error: &Value) -> String {
    let (0x1d, fields) = described(error) else { panic!("no error: {error:?}") };
    let [Value::Symbol(condition), Value::String(text), Value::Null] = fields.as_slice() else {
        panic!("an error of other fields: {fields:?}")
    };
    assert!(!text.is_empty());
    condition.to_string()
}

/// A described list.
#[track_caller]
pub(crate) fn described(value: &Value) -> (u64, Vec<Value>) {
    let Value::Described(described) = value else { panic!("not described: {value:?}") };
    let Descriptor::Code(code) = described.descriptor else { panic!("{value:?}") };
    let Value::List(fields) = &described.value else { panic!("not a list: {value:?}") };
    (code, fields.clone())
}

/// A described value's code.
#[track_caller]
pub(crate) fn code(value: &Value) -> u64 {
    described(value).0
}

/// The error's condition in a rejected state.
#[track_caller]
pub(crate) fn rejected(state: &Value) -> String {
    let (0x25, fields) = described(state) else { panic!("not rejected: {state:?}") };
    condition(&fields[0])
}

pub(crate) fn composite(code: u64, fields: Vec<Value>) -> Value {
    Value::Described(Box::new(Described { descriptor: Descriptor::Code(code), value: Value::List(fields) }))
}

pub(crate) fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(crate) fn symbol(text: &str) -> Value {
    Value::Symbol(Symbol::from(text))
}

pub(crate) fn binary(bytes: &[u8]) -> Value {
    Value::Binary(ByteBuf::from(bytes))
}

pub(crate) fn map(entries: &[(Value, Value)]) -> Value {
    Value::Map(entries.iter().cloned().collect::<OrderedMap<_, _>>())
}

/// A map's value.
pub(crate) fn get<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    let Value::Map(map) = map else { panic!("not a map: {map:?}") };
    let found = map.iter().find(|(known, _)| match known {
        Value::String(known) => known == key,
        Value::Symbol(known) => known.as_str() == key,
        _ => false,
    });
    found.map(|(_, value)| value)
}

pub(crate) fn array(values: Vec<Value>) -> Value {
    Value::Array(Array(values))
}

/// Fields up to an index, all null.
pub(crate) fn nulls(count: usize) -> Vec<Value> {
    vec![Value::Null; count]
}

/// A section of a message.
pub(crate) fn section(code: u64, value: Value) -> Vec<u8> {
    serde_amqp::to_vec(&Described { descriptor: Descriptor::Code(code), value }).unwrap()
}

/// A message that is a body.
pub(crate) fn data(bytes: &[u8]) -> Vec<u8> {
    section(0x75, binary(bytes))
}

/// The sections of a message by their codes.
pub(crate) fn sections(mut bytes: &[u8]) -> Vec<(u64, Value)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, value): (usize, Value) = split(bytes);
        let Value::Described(described) = value else { panic!("{value:?}") };
        let Descriptor::Code(code) = described.descriptor else { panic!("{:?}", described.descriptor) };
        found.push((code, described.value));
        bytes = &bytes[length..];
    }
    found
}

/// A message's section.
#[track_caller]
pub(crate) fn part(payload: &[u8], code: u64) -> Value {
    let found = sections(payload).into_iter().find(|(known, _)| *known == code);
    found.unwrap_or_else(|| panic!("no section {code:#x}")).1
}

/// A described value at the front of bytes, and its length.
pub(crate) fn split(bytes: &[u8]) -> (usize, Value) {
    assert_eq!(bytes[0], 0, "{bytes:x?}");
    let descriptor = match bytes[1] {
        0x53 => 3,
        0x80 => 10,
        other => panic!("a descriptor of type {other:#x}"),
    };
    let size = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let value = &bytes[descriptor..];
    let length = match value[0] >> 4 {
        0x4 => 1,
        0x5 => 2,
        0x8 => 9,
        0xa | 0xc | 0xe => 2 + usize::from(value[1]),
        0xb | 0xd | 0xf => 5 + size(descriptor + 1),
        other => panic!("a value of the category {other:#x}"),
    };
    let length = descriptor + length;
    (length, serde_amqp::from_slice(&bytes[..length]).unwrap())
}

/// The session's part of a flow.
pub(crate) fn flow(next_incoming_id: u32, window: u32) -> Vec<Value> {
    vec![Value::Uint(next_incoming_id), Value::Uint(window), Value::Uint(0), Value::Uint(1000)]
}

/// The fields of a transfer: up to `more`, which is false.
pub(crate) fn transfer(handle: u32, delivery: u32) -> Vec<Value> {
    vec![
        Value::Uint(handle),
        Value::Uint(delivery),
        binary(&delivery.to_be_bytes()),
        Value::Uint(0),
        Value::Bool(false),
        Value::Bool(false),
    ]
}

pub(crate) fn source(address: &str, filter: Option<Value>) -> Value {
    let mut fields = vec![string(address)];
    if let Some(filter) = filter {
        fields.resize(7, Value::Null);
        fields.push(filter);
    }
    composite(0x28, fields)
}

pub(crate) fn target(address: &str) -> Value {
    composite(0x29, vec![string(address)])
}
