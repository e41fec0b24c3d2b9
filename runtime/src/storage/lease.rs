//! Sharing work among instances: leases, live instances and what they handle.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Database;
use uuid::Uuid;

use super::StorageError;
pub use crate::lease::Fence;

/// A lease just taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TakenLease {
    /// Proof of it.
    pub fence: Fence,
    /// Whether its last holder never gave it back: it may have died in the middle of something.
    pub unclean: bool,
}

impl TakenLease {
    /// A lease as an adapter read it.
    #[must_use]
    pub const fn new(fence: Fence, unclean: bool) -> Self {
        Self { fence, unclean }
    }
}

/// What an instance handles: an event of a subscription, up to a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handled {
    /// The subscription.
    pub subscription: String,
    /// The event's name or alias.
    pub event: String,
    /// The highest version.
    pub version: u32,
}

/// A live instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its id, fresh at every start.
    pub id: Uuid,
    /// What it handles.
    pub handles: Vec<Handled>,
}

impl Instance {
    /// An instance and what it handles.
    #[must_use]
    pub const fn new(id: Uuid, handles: Vec<Handled>) -> Self {
        Self { id, handles }
    }

    /// Whether it serves the subscription at all.
    #[must_use]
    pub fn serves(&self, subscription: &str) -> bool {
        self.handles.iter().any(|handled| handled.subscription == subscription)
    }

    /// Whether it handles this version of the event.
    #[must_use]
    pub fn handles(&self, subscription: &str, event: &str, version: u32) -> bool {
        self.handles.iter().any(|handled| {
            handled.subscription == subscription && handled.event == event && handled.version >= version
        })
    }
}

/// Sharing work among instances by rows with the database's clock; no session locks.
pub trait LeaseStorage: Database {
    /// Takes up to `limit` of the named leases that are free or expired, each under the given fresh owner; makes the
    /// rows that are missing. A lease that claims to last beyond now plus `time` counts as expired (rule 29).
    fn take_leases(
        conn: &mut Self::Connection,
        names: &[String],
        owner: Uuid,
        limit: u32,
        time: Duration,
    ) -> impl Future<Output = Result<Vec<TakenLease>, StorageError>> + Send;

    /// Prolongs leases to now plus `time`; returns the names of those still held.
    fn renew_leases(
        conn: &mut Self::Connection,
        fences: &[Fence],
        time: Duration,
    ) -> impl Future<Output = Result<Vec<String>, StorageError>> + Send;

    /// Gives leases back, so that others may take them at once and know that it was done cleanly.
    fn release_leases(
        conn: &mut Self::Connection,
        fences: &[Fence],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Binds a lane to a broker's identity, unless another instance that holds its lease has bound it to another
    /// (rule 23); returns the identity that is bound now.
    fn bind_lane(
        conn: &mut Self::Connection,
        lane: &str,
        broker: &str,
    ) -> impl Future<Output = Result<String, StorageError>> + Send;

    /// Records that an instance lives for another `time` and what it handles; returns all that live, itself included.
    fn announce(
        conn: &mut Self::Connection,
        instance: &Instance,
        time: Duration,
    ) -> impl Future<Output = Result<Vec<Instance>, StorageError>> + Send;

    /// Forgets an instance that stops.
    fn retire(
        conn: &mut Self::Connection,
        instance: Uuid,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}
