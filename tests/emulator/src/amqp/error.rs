//! What goes wrong, as AMQP says it.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::encode::{self, Composite, Open};
use super::value::Malformed;
use crate::model::Fault;

/// An error's condition and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) condition: &'static str,
    pub(super) text: Cow<'static, str>,
}

impl Error {
    pub(super) fn new(condition: &'static str, text: impl Into<String>) -> Self {
        Self { condition, text: Cow::Owned(text.into()) }
    }

    /// All three fields stand there, always: Python's SDK counts on them.
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(&[0, 0x53, 0x1d]);
        let list = Open::new(out, 0xd0);
        encode::symbol(out, self.condition);
        encode::string(out, &self.text);
        out.put_u8(0x40);
        list.close(out, 3);
    }

    /// As a field of a performative.
    pub(super) fn field(error: Option<&Self>, fields: &mut Composite, out: &mut BytesMut) {
        match error {
            Some(error) => fields.field(out, |out| error.write(out)),
            None => fields.null(out),
        };
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { condition: fault.condition.symbol(), text: Cow::Owned(fault.text) }
    }
}

impl From<Malformed> for Error {
    fn from(Malformed(text): Malformed) -> Self {
        Self { condition: "amqp:decode-error", text: Cow::Borrowed(text) }
    }
}
