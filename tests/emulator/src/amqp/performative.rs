//! What clients say, read with patience: fields that are missing, null or of another width are taken as they are meant.

use super::error::Error;
use super::value::Value;

#[derive(Debug)]
pub(super) enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End,
    Close,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) max_frame_size: Option<u32>,
    /// Milliseconds.
    pub(super) idle_time_out: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Begin {
    pub(super) next_outgoing_id: u32,
    pub(super) incoming_window: u32,
}

/// Who sends on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

impl Role {
    fn read(value: Option<&Value>) -> Self {
        if value.and_then(Value::boolean).unwrap_or_default() { Self::Receiver } else { Self::Sender }
    }
}

#[derive(Debug)]
pub(super) struct Attach {
    pub(super) name: String,
    pub(super) handle: u32,
    /// The client's.
    pub(super) role: Role,
    pub(super) snd_settle_mode: Option<u32>,
    pub(super) rcv_settle_mode: Option<u32>,
    pub(super) source: Value,
    pub(super) target: Value,
    pub(super) initial_delivery_count: u32,
    pub(super) properties: Value,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) next_incoming_id: Option<u32>,
    pub(super) incoming_window: u32,
    pub(super) next_outgoing_id: Option<u32>,
    pub(super) handle: Option<u32>,
    pub(super) delivery_count: Option<u32>,
    pub(super) link_credit: Option<u32>,
    pub(super) drain: bool,
    pub(super) echo: bool,
}

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) handle: u32,
    pub(super) delivery_id: Option<u32>,
    pub(super) message_format: Option<u32>,
    pub(super) settled: bool,
    pub(super) more: bool,
    pub(super) state: Value,
    pub(super) aborted: bool,
}

#[derive(Debug)]
pub(super) struct Disposition {
    /// The client's.
    pub(super) role: Role,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) settled: bool,
    pub(super) state: Value,
}

#[derive(Debug)]
pub(super) struct Detach {
    pub(super) handle: u32,
    pub(super) closed: bool,
}

/// The fields of a performative, taken out one by one.
struct Fields(Vec<Value>);

impl Fields {
    fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    fn take(&mut self, index: usize) -> Value {
        self.0.get_mut(index).map_or(Value::NULL, |value| std::mem::replace(value, Value::NULL))
    }

    fn uint(&self, index: usize) -> Option<u32> {
        self.get(index).and_then(Value::u32)
    }

    fn flag(&self, index: usize) -> bool {
        self.get(index).and_then(Value::boolean).unwrap_or_default()
    }

    /// Without which nobody knows what is meant.
    fn needed(&self, index: usize, what: &str) -> Result<u32, Error> {
        self.uint(index).ok_or_else(|| Error::new("amqp:invalid-field", format!("{what} is missing")))
    }
}

impl Performative {
    pub(super) fn read(code: u64, fields: Vec<Value>) -> Result<Self, Error> {
        let mut fields = Fields(fields);
        Ok(match code {
            0x10 => Self::Open(Open { max_frame_size: fields.uint(2), idle_time_out: fields.uint(4) }),
            0x11 => Self::Begin(Begin {
                next_outgoing_id: fields.uint(1).unwrap_or_default(),
                incoming_window: fields.needed(2, "the incoming-window of a begin")?,
            }),
            0x12 => Self::Attach(Box::new(Attach {
                name: fields.get(0).and_then(Value::text).unwrap_or_default().to_owned(),
                handle: fields.needed(1, "the handle of an attach")?,
                role: Role::read(fields.get(2)),
                snd_settle_mode: fields.uint(3),
                rcv_settle_mode: fields.uint(4),
                source: fields.take(5),
                target: fields.take(6),
                initial_delivery_count: fields.uint(9).unwrap_or_default(),
                properties: fields.take(13),
            })),
            0x13 => Self::Flow(Flow {
                next_incoming_id: fields.uint(0),
                incoming_window: fields.needed(1, "the incoming-window of a flow")?,
                next_outgoing_id: fields.uint(2),
                handle: fields.uint(4),
                delivery_count: fields.uint(5),
                link_credit: fields.uint(6),
                drain: fields.flag(8),
                echo: fields.flag(9),
            }),
            0x14 => Self::Transfer(Transfer {
                handle: fields.needed(0, "the handle of a transfer")?,
                delivery_id: fields.uint(1),
                message_format: fields.uint(3),
                settled: fields.flag(4),
                more: fields.flag(5),
                state: fields.take(7),
                aborted: fields.flag(9),
            }),
            0x15 => {
                let first = fields.needed(1, "the first delivery-id of a disposition")?;
                Self::Disposition(Disposition {
                    role: Role::read(fields.get(0)),
                    first,
                    last: fields.uint(2).unwrap_or(first),
                    settled: fields.flag(3),
                    state: fields.take(4),
                })
            }
            0x16 => Self::Detach(Detach {
                handle: fields.needed(0, "the handle of a detach")?,
                closed: fields.flag(1),
            }),
            0x17 => Self::End,
            0x18 => Self::Close,
            other => {
                let text = format!("a performative with the code {other:#x}, which AMQP doesn't have");
                return Err(Error::new("amqp:connection:framing-error", text));
            }
        })
    }
}

/// What a client makes of deliveries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// None, or one that isn't final.
    Open,
    Accepted,
    Released,
    Rejected {
        condition: Option<String>,
        description: Option<String>,
        info: Value,
    },
    Modified {
        undeliverable_here: bool,
        annotations: Value,
    },
    /// What only transactions have.
    Unknown,
}

impl State {
    pub(super) fn read(value: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::text).map(str::to_owned);
        match value.code() {
            None | Some(0x23) => Self::Open,
            Some(0x24) => Self::Accepted,
            Some(0x25) => {
                let error = value.field(0);
                let part = |index| error.and_then(|error| error.field(index));
                Self::Rejected {
                    condition: text(part(0)),
                    description: text(part(1)),
                    info: part(2).cloned().unwrap_or(Value::NULL),
                }
            }
            Some(0x26) => Self::Released,
            Some(0x27) => Self::Modified {
                undeliverable_here: value.field(1).and_then(Value::boolean).unwrap_or_default(),
                annotations: value.field(2).cloned().unwrap_or(Value::NULL),
            },
            Some(_) => Self::Unknown,
        }
    }
}

/// What a source or a target says.
pub(super) fn address(terminus: &Value) -> Option<&str> {
    terminus.field(0).and_then(Value::text)
}
