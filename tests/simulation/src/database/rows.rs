//! The rows of the model database.

use crash::checker::{Entry, Placed};
use distributed_events::Envelope;
use distributed_events::storage::{Handled, IncomingEvent};
use uuid::Uuid;

/// A row's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be done.
    Pending,
    /// Sent, or processed.
    Done,
    /// Given up.
    Dead,
}

/// A row of the outbox; times are milliseconds of the server's clock.
#[derive(Clone, Debug)]
pub struct OutRow {
    pub envelope: Envelope,
    pub state: State,
    pub deliver_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub done_at: i64,
}

/// A row of the inbox.
#[derive(Clone, Debug)]
pub struct InRow {
    pub subscription: String,
    pub event: IncomingEvent,
    pub shard: u8,
    pub state: State,
    pub attempts: u32,
    pub due_at: i64,
    pub received_at: i64,
}

/// A row of the service's own tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Business {
    /// What an account has, and the number of its next line.
    Account { cents: i64, next: i64 },
    /// A line that was placed.
    Placed(Placed),
    /// What a handler has written.
    Entry(Entry),
    /// What was taken in.
    Till { cents: i64 },
}

/// A lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseRow {
    pub owner: Option<Uuid>,
    pub epoch: i64,
    pub until: i64,
    pub unclean: bool,
    pub broker: Option<String>,
}

/// A live instance.
#[derive(Clone, Debug)]
pub struct InstanceRow {
    pub until: i64,
    pub lasts: i64,
    pub handles: Vec<Handled>,
}
