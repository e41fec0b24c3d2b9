//! What `tests/fuzz` reaches of the frames' decoder. Compiled in only with the feature `__fuzzing`.

use bytes::{Bytes, BytesMut};

use super::frame::{self, Frame};
use super::performative::{Performative, State};
use super::read::Reader;
use super::value::Value;
use super::{encode, message};

/// The condition and the text that a client is told.
pub type Told = (&'static str, String);

/// The first frame: its body, and its length with the header.
///
/// # Errors
/// The condition and the text that the client is told.
pub fn first(bytes: &[u8], largest: u32) -> Result<Option<(&[u8], usize)>, Told> {
    let frame = frame::first(bytes, largest).map_err(|error| (error.condition, error.text.into_owned()))?;
    Ok(frame.map(|Frame { body, length, .. }| (body, length)))
}

/// What stands behind a body's performative, if it has one, as far as a connection reads it.
///
/// # Errors
/// The condition and the text that the client is told.
pub fn payload(body: &[u8]) -> Result<Option<&[u8]>, Told> {
    let read = frame::performative(body).map_err(|error| (error.condition, error.text.into_owned()))?;
    Ok(read.map(|(performative, payload)| {
        if let Performative::Transfer(transfer) = &performative {
            let _any = State::read(&transfer.state);
            // What stands there is a message, a batch of them or a request.
            let _any = message::read(Bytes::copy_from_slice(payload));
            let _any = message::read_batch(payload);
            let _any = message::Request::read(payload);
        }
        payload
    }))
}

/// A value: how many values it is made of, and its bytes when it is written anew.
///
/// # Errors
/// Why it is none.
pub fn value(bytes: &[u8]) -> Result<(usize, Vec<u8>), &'static str> {
    let mut reader = Reader::new(bytes);
    let value = reader.value().map_err(|malformed| malformed.0)?;
    let mut out = BytesMut::new();
    encode::value(&mut out, &value);
    Ok((count(&value), out.to_vec()))
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Simple(_) => 0,
        Value::List(all) | Value::Array(all) => all.iter().map(count).sum(),
        Value::Map(all) => all.iter().map(|(key, value)| count(key) + count(value)).sum(),
        Value::Described(both) => count(&both.0) + count(&both.1),
    }
}
