//! What is still to be done in a world, and letting it be done while nothing goes wrong.

use std::time::Duration;

use sqlx::Row;
use tokio::time::Instant;

use super::world::{SimulationError, World};
use crate::admin;
use crate::simulated::{self, Held};

/// After so long without a change, what is left waits for its time.
const UNCHANGED: Duration = Duration::from_secs(15);

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_millis(500);
/// How long, in simulated time, something may change without an end.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// So often the clock leaps; what is not done then, such as an event that publishes itself again for the next day, never ends.
const MOST_LEAPS: u32 = 50;

/// When the next of what waits may be sent, or tried again.
const NEXT_DUE: &str = "SELECT min(due) AS due FROM ( \
    SELECT max(coalesce(deliver_at, 0), coalesce(next_attempt_at, 0)) AS due FROM outbox WHERE status = 'pending' \
    UNION ALL SELECT next_attempt_at FROM inbox WHERE status = 'pending') WHERE due > ?1";

impl World {
    /// What is not done yet.
    pub(super) async fn open(&self) -> Result<Vec<String>, SimulationError> {
        let turn = Held::take(&self.shared.turn).await;
        let mut open = Vec::new();
        let mut add = |count: u64, what: String| {
            if count > 0 {
                open.push(format!("{count} {what}"));
            }
        };
        add(self.namespace.waiting() as u64, "messages at the broker".to_owned());
        for service in &self.services {
            for (lane, counts) in admin::count_outbox(&service.pool).await?.lanes {
                add(counts.pending, format!("events in the outbox of {}, lane {lane}", service.name));
            }
            for (subscription, counts) in admin::count_inbox(&service.pool).await?.subscriptions {
                add(
                    counts.pending,
                    format!("events in the inbox of {}, subscription {subscription}", service.name),
                );
            }
        }
        drop(turn);
        Ok(open)
    }

    /// Lets everything be done that is to be done before a time, or that is to be done at all. Where all that is left waits,
    /// the clock leaps.
    pub(super) async fn calm(&mut self, end: Option<i64>) -> Result<(), SimulationError> {
        for _ in 0..MOST_LEAPS {
            self.start_missing()?;
            let mut open = self.open().await?;
            let begun = Instant::now();
            let (mut since, mut since_then) = (begun, time());
            // Something may go on for ever, but not for ever before a time that is given.
            while since.elapsed() < UNCHANGED && (end.is_some() || begun.elapsed() < PATIENCE) {
                let left = end.map(|end| u64::try_from(end - time()).unwrap_or(0));
                if left == Some(0) || (left.is_none() && open.is_empty()) {
                    self.stop_all().await;
                    return Ok(());
                }
                tokio::time::sleep(LOOK.min(left.map_or(LOOK, Duration::from_millis))).await;
                let now_open = self.open().await?;
                if now_open != open {
                    open = now_open;
                    (since, since_then) = (Instant::now(), time());
                }
            }
            self.stop_all().await;
            // What has become due since the last change may not have been looked at.
            let Some(next) = self.next_due(since_then).await?.into_iter().chain(end).min() else {
                break;
            };
            let ahead = (next - time()).max(0);
            self.shared.say("clock", &format!("leaps by {ahead} ms to what is due next"));
            self.clock.jump(ahead);
        }
        let open = self.open().await?;
        if open.is_empty() { Ok(()) } else { Err(SimulationError::Unsettled(open.join(", "))) }
    }

    async fn next_due(&self, now: i64) -> Result<Option<i64>, SimulationError> {
        let _turn = Held::take(&self.shared.turn).await;
        let mut next = None;
        for service in &self.services {
            let row = sqlx::query(NEXT_DUE).bind(now).fetch_one(&service.pool).await;
            let due: Option<i64> =
                row.and_then(|row| row.try_get("due")).map_err(crate::StorageError::from)?;
            next = next.into_iter().chain(due).min();
        }
        Ok(next)
    }
}

/// The simulated time, in milliseconds.
fn time() -> i64 {
    simulated::now().unwrap_or_default()
}
