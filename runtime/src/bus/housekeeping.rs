//! What a bus tends to beside its events: retention, and rows that nobody relays.

use std::collections::BTreeSet;
use std::sync::Arc;
#[cfg(feature = "macros")]
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::Inner;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, Retention, Storage, StorageError};
use crate::telemetry::IncidentKind;

/// How often retention looks for what it no longer keeps.
const EVERY: Duration = Duration::from_secs(60);
/// The first look comes soon: a service that is restarted often would never get to it.
const FIRST: Duration = Duration::from_secs(5);
/// Rows deleted with one statement, and the pause after it, in which others write.
const SLICE: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run<DB: Storage>(bus: Arc<Inner<DB>>, connections: Connections<DB>, mut stop: Shutdown) {
    let mut wait = FIRST;
    let mut reported = BTreeSet::new();
    while stop.or_stop(tokio::time::sleep(wait)).await.is_some() {
        wait = EVERY;
        let tended = async {
            purge(&bus, &connections, &mut stop).await?;
            if bus.has_outbox {
                report_unserved_lanes(&bus, &connections, &mut reported).await
            } else {
                Ok(())
            }
        };
        if let Err(error) = tended.await {
            bus.telemetry.incidents.report(IncidentKind::DatabaseTrouble, "retention", error);
        }
    }
}

async fn purge<DB: Storage>(
    bus: &Inner<DB>,
    connections: &Connections<DB>,
    stop: &mut Shutdown,
) -> Result<(), StorageError> {
    let outbox = bus.outbox.retention.filter(|_| bus.has_outbox);
    let outbox = outbox.map(|older_than| Retention::Outbox { older_than, limit: SLICE });
    let inbox = [
        Retention::InboxBodies { older_than: bus.inbox.keep_bodies, limit: SLICE },
        Retention::InboxRows { older_than: bus.inbox.keep_keys, limit: SLICE },
    ];
    for retention in outbox.into_iter().chain(inbox.into_iter().filter(|_| bus.has_inbox)) {
        loop {
            let gone = DB::purge(&mut *connections.write().await?, &retention).await?;
            if gone < u64::from(SLICE) || stop.or_stop(tokio::time::sleep(PAUSE)).await.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Rows of a lane that no relay serves would wait for ever.
async fn report_unserved_lanes<DB: Storage>(
    bus: &Inner<DB>,
    connections: &Connections<DB>,
    reported: &mut BTreeSet<String>,
) -> Result<(), StorageError> {
    let counts = DB::count_outbox(&mut *connections.read().await?).await?;
    for (lane, states) in counts.lanes {
        let served = bus.lanes.iter().any(|known| known.name == lane);
        if !served && states.pending > 0 && reported.insert(lane.clone()) {
            bus.telemetry.incidents.report(
                IncidentKind::Warning,
                "outbox",
                format_args!("{} events wait in lane {lane}, which this bus has no broker for: add `.lane(\"{lane}\", broker)`, or run a relay for it", states.pending),
            );
        }
    }
    Ok(())
}

/// The subscriptions that some bus of this process serves, or that were warned of.
#[cfg(feature = "macros")]
static SERVED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// Notes what a bus serves, when it is built: its process may build others before it runs any.
#[cfg(feature = "macros")]
pub(super) fn note_served<DB: Storage>(bus: &Inner<DB>) {
    let mut known = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(bus.subscriptions.iter().map(|served| served.name.clone()));
}

/// Declared handlers whose subscription no bus of this process serves: one line for each subscription.
#[cfg(feature = "macros")]
pub(super) fn warn_of_unserved() {
    let mut known = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    for record in crate::inbox::discovery::records() {
        let subscription = record.declaration.settings.subscription();
        if known.insert(subscription.to_owned()) {
            tracing::warn!(subscription, handler = %record.declaration, database = ?record.database(), "no bus serves this subscription so far");
        }
    }
}
