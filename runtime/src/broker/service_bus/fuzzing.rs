//! What `tests/fuzz` reaches of the wire format and the connection strings. Not a public API.
//!
//! Compiled in only with the feature `__fuzzing`, which is for this crate's own tests.

use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;

use super::message;
use crate::broker::Message;
use crate::broker::namespace::{ConnectionString, ServiceBusConfigError};
use crate::envelope::Envelope;

/// A message as a receiver reads it off the wire.
///
/// # Errors
/// When the bytes are no AMQP message.
pub fn read(bytes: &[u8]) -> Result<Message, String> {
    let reader = serde_amqp::read::SliceReader::new(bytes);
    let message = message::Received::decode_message_from_reader(reader);
    message.map(message::decode).map_err(|error| error.to_string())
}

/// The bytes of an event's message in a batch.
///
/// # Errors
/// When it can't be encoded.
pub fn written(event: &Envelope) -> Result<Vec<u8>, String> {
    message::bytes_of(event, "sb://fuzz")
}

/// What a connection string says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where the namespace is.
    pub host: String,
    /// Its port, if it says one.
    pub port: Option<u16>,
    /// The key's name.
    pub key_name: String,
    /// The key itself.
    pub key: String,
    /// Whether it is the emulator's.
    pub emulator: bool,
    /// The form that a log would show.
    pub shown: String,
}

/// Reads a connection string.
///
/// # Errors
/// When it isn't one.
pub fn connection(text: &str) -> Result<Connection, ServiceBusConfigError> {
    let parsed = ConnectionString::parse(text)?;
    Ok(Connection {
        shown: format!("{parsed:?}"),
        host: parsed.host,
        port: parsed.port,
        key_name: parsed.key_name,
        key: parsed.key.reveal().to_owned(),
        emulator: parsed.emulator,
    })
}
