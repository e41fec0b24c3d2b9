//! Asking a bus how it is: what its loops have shown, and a few index seeks with a deadline.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{EventBus, Inner, Served};
use crate::health::{BrokerHealth, Health, Holder, LaneHealth, Reason, SubscriptionHealth};
use crate::pulse::{Answer, Beat, Phase, Role, Seen};
use crate::storage::{
    LeaseStatus, OperatorStorage, RowCursor, RowFilter, RowState, SHARDS, StorageError, Table,
};

impl<DB: OperatorStorage> EventBus<DB> {
    /// How this bus is, for a probe: `live` and `ready` decide, `degraded` says what isn't as it should be. It costs a few
    /// index seeks, more the more shards have something waiting, and answers within the deadline of the
    /// [thresholds](crate::BusBuilder::health_thresholds), also when the database hangs. Brokers are not asked: the relays
    /// know what they have last said.
    ///
    /// ```no_run
    /// # async fn example(bus: distributed_events::EventBus<sqlx::Sqlite>) {
    /// let health = bus.health().await;
    /// for reason in &health.degraded {
    ///     eprintln!("{reason}");
    /// }
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        self.inner.health().await
    }
}

/// What the database says.
#[derive(Default)]
struct Asked {
    leases: Vec<LeaseStatus>,
    /// By lane: how long the oldest event has waited.
    lanes: Vec<Option<Duration>>,
    /// By subscription: the shards with something waiting, and how long the oldest event has.
    subscriptions: Vec<(Vec<u8>, Option<Duration>)>,
}

impl<DB: OperatorStorage> Inner<DB> {
    async fn health(&self) -> Health {
        let (phase, beats) = self.pulse.look();
        let mut degraded = Vec::new();
        degraded.extend(match phase {
            Phase::NotStarted => Some(Reason::NotStarted),
            Phase::Starting => Some(Reason::Starting),
            Phase::Running => None,
            Phase::Stopping => Some(Reason::Stopping),
            Phase::Ended => Some(Reason::Ended),
        });
        // Without a run there may be no connection to ask over.
        let running = matches!(phase, Phase::Running | Phase::Stopping);
        let asked = if running { Some(self.asked().await) } else { None };
        let now = Instant::now();
        let beats: Vec<_> = beats.iter().map(|beat| (Arc::clone(beat), beat.seen())).collect();
        let (answer, troubled) = match asked {
            Some(Ok(answer)) => (Some(answer), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        // Whoever waits for a database that doesn't answer isn't stuck.
        let stuck = if answer.is_some() { self.stuck(&beats, now) } else { Vec::new() };
        let live = phase != Phase::Ended && stuck.is_empty();
        let ready = phase == Phase::Running && answer.is_some();
        degraded.extend(stuck);
        degraded.extend(troubled);
        degraded.extend(self.restarted(&beats, now));
        degraded.extend(away(&beats, now));
        let (lanes, subscriptions) = match &answer {
            Some(answer) => (
                self.lane_healths(answer, &beats, now, &mut degraded),
                self.served_healths(answer, &beats, &mut degraded),
            ),
            None => (Vec::new(), Vec::new()),
        };
        Health { live, ready, degraded, lanes, subscriptions }
    }

    fn stuck(&self, beats: &[(Arc<Beat>, Seen)], now: Instant) -> Vec<Reason> {
        let away = |seen: &Seen| now.saturating_duration_since(seen.at);
        beats
            .iter()
            .filter(|(beat, seen)| {
                beat.role != Role::Other && !seen.ended && away(seen) > self.thresholds.stuck_after
            })
            .map(|(beat, seen)| Reason::LoopStuck { name: beat.name.clone(), lasting: away(seen) })
            .collect()
    }

    fn restarted(&self, beats: &[(Arc<Beat>, Seen)], now: Instant) -> Vec<Reason> {
        let of_late = |at: Instant| now.saturating_duration_since(at) <= self.thresholds.stuck_after;
        beats
            .iter()
            .filter(|(_, seen)| seen.panicked_at.is_some_and(of_late))
            .map(|(beat, seen)| Reason::LoopRestarted { name: beat.name.clone(), times: seen.panics })
            .collect()
    }

    fn lane_healths(
        &self,
        asked: &Asked,
        beats: &[(Arc<Beat>, Seen)],
        now: Instant,
        degraded: &mut Vec<Reason>,
    ) -> Vec<LaneHealth> {
        let mut healths = Vec::new();
        for (lane, oldest) in self.relayed().zip(&asked.lanes) {
            let (name, oldest_pending) = (lane.name.clone(), *oldest);
            let seen = seen_as(beats, &Role::OutboxRelay(name.clone()));
            let lease = format!("outbox:{name}");
            let is_held = asked.leases.iter().any(|held| held.name == lease && held.remaining.is_some());
            let lease = match seen {
                Some(seen) if seen.holds > 0 => Holder::Here,
                _ if is_held => Holder::Elsewhere,
                _ => Holder::Nobody,
            };
            if lease == Holder::Nobody && oldest_pending.is_some() {
                degraded.push(Reason::LaneWithoutLeader { lane: name.clone() });
            }
            if let Some(oldest) = oldest_pending.filter(|oldest| *oldest > self.thresholds.oldest_pending) {
                degraded.push(Reason::OutboxLate { lane: name.clone(), oldest });
            }
            let broker = seen.map_or(BrokerHealth::Unknown, |seen| broker(&seen.broker, now));
            healths.push(LaneHealth { name, lease, broker, oldest_pending });
        }
        healths
    }

    fn served_healths(
        &self,
        asked: &Asked,
        beats: &[(Arc<Beat>, Seen)],
        degraded: &mut Vec<Reason>,
    ) -> Vec<SubscriptionHealth> {
        let mut healths = Vec::new();
        for (served, (waiting, oldest)) in self.subscriptions.iter().zip(&asked.subscriptions) {
            let (name, oldest_pending) = (served.name.clone(), *oldest);
            let is_held = |shard: u8| {
                let lease = format!("inbox:{name}:{shard:02}");
                asked.leases.iter().any(|held| held.name == lease && held.remaining.is_some())
            };
            let held = (0..SHARDS).filter(|shard| is_held(*shard)).count();
            let shards_here =
                seen_as(beats, &Role::Processor(name.clone())).map_or(0, |seen| seen.holds).min(held);
            let shards = waiting.iter().filter(|shard| !is_held(**shard)).count();
            if shards > 0 {
                degraded.push(Reason::ShardsWithoutWorker { subscription: name.clone(), shards });
            }
            if let Some(oldest) = oldest_pending.filter(|oldest| *oldest > self.thresholds.oldest_pending) {
                degraded.push(Reason::InboxLate { subscription: name.clone(), oldest });
            }
            let (shards_elsewhere, shards_free) = (held - shards_here, usize::from(SHARDS) - held);
            healths.push(SubscriptionHealth {
                name,
                shards_here,
                shards_elsewhere,
                shards_free,
                oldest_pending,
            });
        }
        healths
    }

    async fn asked(&self) -> Result<Asked, Reason> {
        let within = self.thresholds.deadline;
        match tokio::time::timeout(within, self.ask()).await {
            Ok(Ok(asked)) => Ok(asked),
            Ok(Err(StorageError::Database(error))) => {
                Err(Reason::DatabaseTrouble { error: error.to_string() })
            }
            Ok(Err(error)) => Err(Reason::TablesWrong { problem: error.to_string() }),
            Err(_elapsed) => {
                // What was asked is cut off in the middle of a connection.
                if let Ok(connections) = self.store.connections().await {
                    connections.suspect();
                }
                Err(Reason::DatabaseSilent { within })
            }
        }
    }

    async fn ask(&self) -> Result<Asked, StorageError> {
        let mut conn = self.store.connections().await?.read().await?;
        let _warnings = DB::check(&mut conn).await?;
        let now = DB::clock(&mut conn).await?;
        let mut asked = Asked { leases: DB::lease_statuses(&mut conn).await?, ..Asked::default() };
        for lane in self.relayed() {
            let mut oldest = None;
            for state in [RowState::Pending, RowState::Delayed] {
                let mut first = RowFilter::new(state, SystemTime::UNIX_EPOCH);
                (first.owner, first.limit) = (Some(lane.name.clone()), 1);
                for row in DB::list_rows(&mut conn, Table::Outbox, &first).await? {
                    // A delayed event waits since it became due.
                    let since = row.due_at.filter(|_| state == RowState::Delayed).unwrap_or(row.written_at);
                    oldest = oldest.max(now.duration_since(since).ok());
                }
            }
            asked.lanes.push(oldest);
        }
        for served in &self.subscriptions {
            asked.subscriptions.push(waiting::<DB>(&mut conn, served, now).await?);
        }
        Ok(asked)
    }
}

/// The shards of a subscription in which events wait, and how long the oldest has: a seek for each such shard.
async fn waiting<DB: OperatorStorage>(
    conn: &mut DB::Connection,
    served: &Served<DB>,
    now: SystemTime,
) -> Result<(Vec<u8>, Option<Duration>), StorageError> {
    let all: Vec<_> = (0..SHARDS).map(|shard| (shard, 0)).collect();
    let shards = DB::ready_shards(conn, &served.name, &all).await?;
    let mut oldest = None;
    for shard in &shards {
        let mut first = RowFilter::new(RowState::Pending, SystemTime::UNIX_EPOCH);
        first.owner = Some(served.name.clone());
        first.after = Some(RowCursor { owner: served.name.clone(), rank: i64::from(*shard), seq: -1 });
        first.limit = 1;
        for row in DB::list_rows(conn, Table::Inbox, &first).await? {
            oldest = oldest.max(now.duration_since(row.written_at).ok());
        }
    }
    Ok((shards, oldest))
}

fn seen_as<'a>(beats: &'a [(Arc<Beat>, Seen)], role: &Role) -> Option<&'a Seen> {
    beats.iter().find(|(beat, _)| beat.role == *role).map(|(_, seen)| seen)
}

fn broker(answer: &Answer, now: Instant) -> BrokerHealth {
    match answer {
        Answer::Unknown => BrokerHealth::Unknown,
        Answer::Good => BrokerHealth::Reachable,
        Answer::Missing { since, error } => {
            BrokerHealth::Away { lasting: now.saturating_duration_since(*since), error: error.clone() }
        }
    }
}

fn away(beats: &[(Arc<Beat>, Seen)], now: Instant) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (beat, seen) in beats {
        if let BrokerHealth::Away { lasting, error } = broker(&seen.broker, now) {
            reasons.push(Reason::BrokerAway { name: beat.name.clone(), lasting, error });
        }
    }
    reasons
}
