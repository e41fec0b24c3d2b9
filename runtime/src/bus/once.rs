//! One handler alone, with what a bus has for it: its states, its settings, its connections.

use std::time::{Duration, SystemTime};

use super::{BusError, EventBus, checks};
use crate::inbox::bind::BoundHandler;
use crate::inbox::once::{Once, Ran};
use crate::inbox::route::Routes;
use crate::storage::{InboxStore as _, IncomingEvent, Storage};

impl<DB: Storage> EventBus<DB> {
    /// Runs a handler, registered or not, on an event, as an attempt of this number: see [`Once::run`].
    pub(crate) async fn handle_once(
        &self,
        handler: BoundHandler<DB>,
        event: &IncomingEvent,
        attempt: u32,
        received_at: SystemTime,
    ) -> Result<(Ran, Option<(Duration, bool)>), BusError> {
        let bus = &self.inner;
        let subscription = handler.declaration.settings.subscription();
        let missing = checks::missing_states(&handler, &bus.states);
        let routes = if missing.is_empty() { Routes::new(vec![handler], &bus.inbox) } else { Err(missing) };
        let routes = routes.map_err(|problems| BusError::Configuration { problems })?;
        let Some(route) = routes.get(&event.name) else {
            return Ok((Ran::Stale, None));
        };
        let connections = bus.store.connections().await?;
        bus.store.ingest(subscription, std::slice::from_ref(event)).await?;
        let once = Once { connections, subscription, route, states: &bus.states, telemetry: &bus.telemetry };
        Ok(once.run(event, attempt, received_at).await?)
    }
}
