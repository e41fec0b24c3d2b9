//! One run of one handler on an event of a test's, on the way that a processor's runs take.

use std::time::{Duration, SystemTime};

pub(crate) use super::guarded::Ran;
use super::guarded::{self, Work};
use super::handler::States;
use super::route::Route;
use super::runs::Runner;
use crate::storage::{Connections, InboxQuery, InboxRow, IncomingEvent, Storage, StorageError, shard_of};
use crate::telemetry::Telemetry;
use crate::telemetry::spans::OWN_SYSTEM;

/// A handler that is to run alone, and what a bus has for it.
pub(crate) struct Once<'a, DB: Storage> {
    pub(crate) connections: &'a Connections<DB>,
    pub(crate) subscription: &'a str,
    pub(crate) route: &'a Route<DB>,
    pub(crate) states: &'a States,
    pub(crate) telemetry: &'a Telemetry,
}

impl<DB: Storage> Once<'_, DB> {
    /// Runs it on an event that waits in the inbox, as an attempt of this number. Returns what came of it, and, where it
    /// has failed, in how long it would be run again, if ever, and whether this attempt counts. Nothing of that is written.
    pub(crate) async fn run(
        &self,
        event: &IncomingEvent,
        attempt: u32,
        received_at: SystemTime,
    ) -> Result<(Ran, Option<(Duration, bool)>), StorageError> {
        let Some(row) = self.row(event).await? else { return Ok((Ran::Stale, None)) };
        let row = InboxRow {
            attempts: attempt.saturating_sub(1),
            ..InboxRow::new(row.seq, event.clone(), received_at)
        };
        let work = Work {
            subscription: self.subscription,
            rows: &[(&row, self.route)],
            states: self.states,
            timeout: self.route.timeout,
        };
        let runner =
            Runner { telemetry: self.telemetry, system: OWN_SYSTEM, subscription: self.subscription };
        let ran = guarded::run(self.connections, &work, &mut runner.runs()).await?;
        let again = match &ran {
            Ran::Failed(error) => self.route.again_in(error, &row),
            _ => None,
        };
        Ok((ran, again))
    }

    async fn row(&self, event: &IncomingEvent) -> Result<Option<InboxRow>, StorageError> {
        let query = InboxQuery::new(self.subscription, shard_of(&event.shard_key()), u32::MAX);
        let rows = DB::read_inbox(&mut *self.connections.read().await?, &query).await?;
        Ok(rows.into_iter().find(|row| row.event.id == event.id))
    }
}
