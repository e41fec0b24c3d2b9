//! The rules of SEMANTICS.md as a running bus keeps them, on every database: each case is named after its rule and is the
//! interleaving that breaks the promise without it. What only the storage port can break is in its conformance suite, what
//! takes several processes in `instances`. Where each rule is held:
//!
//! | rule | by |
//! |---|---|
//! | 1, 6 | `rule_06_…`, `outbox_relay::order`, `instances::freezing::a_thousand_sessions_…` |
//! | 2 | `rule_02_…`, `storage_postgres::horizons` (both tables), `storage_mysql` |
//! | 3, 4 | `rule_03_…`, `rule_04_…`, `conformance::attempts` |
//! | 5 | `rule_05_…` (three), `conformance::inbox::{blocked_sessions_hide_no_other, rows_dealt_with_are_left_out}` |
//! | 7 | `service_bus::kinds`, `service_bus_http`, `topology::starting` |
//! | 8, 9 | `rule_09_…` (five), `conformance::guard`, `guard`, `storage_mysql::guarded`, `storage_postgres::transactions` |
//! | 10 | `rule_10_…`, `instances::freezing::an_instance_that_is_frozen_inside_its_handler_…` |
//! | 11 | `rule_11_…` (two), `instances::deaths` |
//! | 12, 13 | `rule_12_…`, `handling::batches`, `registration` |
//! | 14 | `conformance::ingest`, `inbox_relay` |
//! | 15, 16 | `rule_15_…` (two), `rule_16_…`, `conformance::retention`, `registration` |
//! | 17, 18, 19 | `conformance::ingest`, `inbox_relay`, `street::entities` |
//! | 20 | the hashes' vectors, `service_bus::sessions` |
//! | 21, 22 | `instances::deployment`, `bad_input`, `conformance::migrations` |
//! | 23 | `registration` |
//! | 24, 25 | `outbox_relay::{failures, marks}`, `conformance::outbox` |
//! | 26 | `what_a_subscriber_has_lost_is_sent_again`, `broker_conformance::routing` |
//! | 27 | `local_broker`, `conformance::local` |
//! | 28, 29 | `rule_28_…`, `conformance::leases`, each database's `settings` |
//! | 30 | `storage_postgres::pgbouncer`, `storage_mysql` |
//! | 31 | `storage_sqlite::transactions`, `registration` |
//! | 32 | `outages::failover` |

use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::storage::{Body, IncomingEvent, Storage, shard_of};
use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, EventId, HandlerError, HandlerSettings, InboxSettings,
    LocalBroker, OutboxSettings, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use sqlx::Pool;
use tokio::sync::oneshot;

use crate::eventually::eventually;
use crate::instances::Shared;

pub mod guard;
pub mod holding;
pub mod identity;
pub mod order;
pub mod trouble;

/// An event that brings along what its handler does before it writes its row to `effects`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    /// Its session.
    pub session: Option<String>,
    /// What it is told apart by.
    pub n: i64,
    /// Statements, and whether the handler swallows their errors.
    pub sql: Vec<(String, bool)>,
    /// Asks for this many seconds, instead of doing anything.
    pub later: u64,
}

impl DistributedEvent for Step {
    const NAME: &'static str = "rules.step";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        self.session.clone()
    }
}

/// A step of a session.
pub fn step(session: &str, n: i64) -> Step {
    Step { session: Some(session.to_owned()), n, ..Step::default() }
}

/// A step without a session that runs statements.
pub fn running(n: i64, sql: &[(&str, bool)]) -> Step {
    let sql = sql.iter().map(|(sql, swallow)| ((*sql).to_owned(), *swallow)).collect();
    Step { n, sql, ..Step::default() }
}

/// Other sessions of the same shard, which a reader of that shard must not let wait for this one.
pub fn beside_session(session: &str) -> impl Iterator<Item = String> {
    let shard = shard_of(session);
    (0..).map(|n| format!("beside{n}")).filter(move |other| shard_of(other) == shard)
}

/// The step as a broker delivers it.
pub fn received(step: &Step) -> IncomingEvent {
    let body = Body::Text(serde_json::to_string(step).unwrap());
    let mut event = IncomingEvent::new(EventId::new(), Step::NAME, body);
    event.session_id.clone_from(&step.session);
    event
}

/// The subscription of the cases.
pub const SUBSCRIPTION: &str = "rules";

/// A database with `effects`, and which steps were run on it, in order, with their attempts.
pub struct Rig<F> {
    /// The database.
    pub fixture: F,
    runs: Arc<Mutex<Vec<(i64, u32)>>>,
}

impl<F: Shared> Rig<F> {
    /// With the tables.
    pub async fn new() -> Self {
        let fixture = F::fresh().await;
        fixture.execute(F::EFFECTS).await;
        Self { fixture, runs: Arc::default() }
    }

    /// A bus with short times and the handler, on any pool of the database.
    pub fn builder_on(&self, pool: Pool<F::DB>, settings: HandlerSettings) -> BusBuilder<F::DB> {
        let runs = Arc::clone(&self.runs);
        plain_builder(pool).on(settings, move |step: Step, tx, context| {
            runs.lock().unwrap().push((step.n, context.attempt()));
            Box::pin(async move {
                if step.later > 0 {
                    return Err(HandlerError::retry_after(Duration::from_secs(step.later)));
                }
                for (sql, swallow) in &step.sql {
                    match F::run(&mut **tx, sql).await {
                        Err(error) if !swallow => return Err(error.into()),
                        _ => {}
                    }
                }
                let session =
                    step.session.map_or_else(|| "NULL".to_owned(), |session| format!("'{session}'"));
                let sql = format!(
                    "INSERT INTO effects (session_id, n, instance) VALUES ({session}, {}, '')",
                    step.n
                );
                // A handler that has broken its transaction is the kind that doesn't look at errors any more.
                match F::run(&mut **tx, &sql).await {
                    Err(error) if step.sql.iter().all(|(_, swallow)| !swallow) => Err(error.into()),
                    _ => Ok(()),
                }
            })
        })
    }

    /// The usual one.
    pub fn bus(&self) -> EventBus<F::DB> {
        self.builder_on(self.fixture.pool().clone(), settings()).build().unwrap()
    }

    /// Publishes in a transaction of its own.
    pub async fn publish(&self, steps: &[Step]) {
        let mut tx = self.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        Step::publish_all(&mut tx, steps).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Puts steps into the inbox, as if a broker had brought them.
    pub async fn receive(&self, steps: &[Step]) {
        let events: Vec<_> = steps.iter().map(received).collect();
        F::DB::ingest(&mut *self.fixture.conn().await, SUBSCRIPTION, &events).await.unwrap();
    }

    /// The effects of a session, in order; without one, all.
    pub async fn effects(&self, session: Option<&str>) -> Vec<i64> {
        let of = session.map_or_else(String::new, |session| format!("WHERE session_id = '{session}' "));
        let mut conn = self.fixture.conn().await;
        F::numbers(&mut conn, &format!("SELECT n FROM effects {of}ORDER BY seq")).await
    }

    /// Waits for the effects of a session.
    pub async fn has(&self, session: Option<&str>, expected: &[i64]) {
        let look = || self.effects(session);
        eventually("the effects", look, |found| found.len() >= expected.len()).await;
        assert_eq!(self.effects(session).await, expected, "session {session:?}");
    }

    /// Waits until so many inbox rows have this status, attempts and reason.
    pub async fn rows(&self, count: i64, status: &str, attempts: u32, reason: &str) {
        let sql = format!(
            "SELECT count(*) FROM inbox WHERE status = '{status}' AND attempts = {attempts} \
             AND coalesce(last_error, '') LIKE '%{reason}%'"
        );
        let what = format!("{count} rows {status} after {attempts} attempts because {reason:?}");
        eventually(&what, || self.fixture.number(&sql), |found| *found == count).await;
    }

    /// Which attempts there were of a step.
    pub fn attempts(&self, n: i64) -> Vec<u32> {
        self.runs.lock().unwrap().iter().filter(|(run, _)| *run == n).map(|(_, attempt)| *attempt).collect()
    }
}

/// The handler's usual settings.
pub fn settings() -> HandlerSettings {
    HandlerSettings::new(SUBSCRIPTION)
}

/// A bus with short times and without a handler.
pub fn plain_builder<DB: Storage>(pool: Pool<DB>) -> BusBuilder<DB> {
    let idle = Duration::from_millis(20);
    EventBus::builder(pool)
        .broker(LocalBroker::new())
        .inbox(
            InboxSettings::default()
                .poll_interval(idle)
                .retry(RetryPolicy::default().attempts(3).initial(Duration::from_millis(10)).jitter(0.0)),
        )
        .outbox(OutboxSettings::default().poll_interval(idle))
        // Read only when a test has failed.
        .on_incident(|incident| println!("{:?} {}: {}", incident.kind, incident.source, incident.message))
}

/// Runs a bus beside a future, and stops it when that has ended.
pub async fn beside<DB: Storage, T>(bus: &EventBus<DB>, work: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let run = bus.run_until(async {
        let _gone = stopped.await;
    });
    let (ran, done) = tokio::join!(run, async {
        let done = work.await;
        drop(stop);
        done
    });
    ran.unwrap();
    done
}

/// Stamps out one test for each case on a fixture.
#[macro_export]
macro_rules! rules {
    ($fixture:ty) => {
        $crate::rules! { @cases ($fixture)
            order: rule_02_a_late_commit_is_sent_before_what_its_session_published_after_it,
                rule_02_a_late_commit_is_seen_before_its_gap_is_passed,
                rule_05_a_blocked_session_hides_nobody, rule_05_waiting_rows_hide_nobody,
                rule_05_a_row_that_cannot_be_read_hides_nobody,
                rule_06_a_session_is_sent_in_order;
            holding: rule_03_a_held_row_blocks_its_session_alone, rule_04_a_zombie_that_commits_is_believed,
                rule_10_an_endless_statement_is_ended, rule_28_a_users_pool_of_one_is_enough;
            guard: rule_09_a_swallowed_error_is_never_half_a_commit, rule_09_a_raw_commit_is_dead_and_never_run_again,
                rule_09_a_raw_rollback_leaves_nothing_unseen, rule_09_ddl_is_committed_with_the_mark_or_found_out,
                rule_12_a_failed_batch_runs_one_by_one;
            trouble: rule_09_a_swallowed_deadlock_is_a_failed_attempt, rule_11_a_deadlock_is_no_attempt,
                rule_11_a_lost_connection_is_no_attempt;
            identity: rule_15_an_event_past_the_horizon_is_not_run, rule_15_what_waited_longer_than_retention_is_run,
                rule_16_an_explicit_id_is_published_once;
        }
    };
    (@cases ($fixture:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::rules::$module::$case::<$fixture>().await;
            })+
        })+
    };
}
