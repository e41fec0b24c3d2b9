//! What every storage must do, as functions over a [`Fixture`]: behaviour belongs here and never in one database's tests.
//!
//! A database takes part with a file in `tests/tests` that implements [`Fixture`] and calls
//! [`storage_conformance!`](crate::storage_conformance).

use std::future::Future;
use std::time::Duration;

use distributed_events::storage::{
    Body, InboxQuery, InboxRow, IncomingEvent, IngestReport, LeaseStorage, NewEvent, OperatorStorage,
    OutboxQuery, OutboxRow, Storage, Table, TakenLease,
};
use distributed_events::{Envelope, EventId};
use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use uuid::Uuid;

pub mod admin;
pub mod attempts;
pub mod chains;
pub mod guard;
pub mod inbox;
pub mod ingest;
pub mod leases;
pub mod local;
pub mod migrations;
pub mod operator;
pub mod outbox;
pub mod payloads;
pub mod retention;

/// A database of its own for each test, with the raw access that makes time and trouble.
pub trait Fixture: Sized + Send + Sync {
    /// Which kind.
    type DB: OperatorStorage;

    /// A database without tables.
    fn empty() -> impl Future<Output = Self> + Send;

    /// The user's pool, of at least four connections.
    fn pool(&self) -> &Pool<Self::DB>;

    /// A second pool on the same database, as another process would open it.
    fn another_pool(&self) -> impl Future<Output = Pool<Self::DB>> + Send;

    /// Runs statements that need no arguments.
    fn run(
        conn: &mut <Self::DB as Database>::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The numbers of a query's only column.
    fn numbers(
        conn: &mut <Self::DB as Database>::Connection,
        sql: &str,
    ) -> impl Future<Output = Vec<i64>> + Send;

    /// Makes all rows of a table so much older, in every time they hold.
    fn age(&self, table: Table, by: Duration) -> impl Future<Output = ()> + Send;

    /// Makes a lease end so many milliseconds from now; negative: it ended before.
    fn set_lease_until(&self, name: &str, from_now: i64) -> impl Future<Output = ()> + Send;

    /// The same for an instance's announcement.
    fn set_instance_until(&self, id: Uuid, from_now: i64) -> impl Future<Output = ()> + Send;

    /// From now on the database refuses inbox rows whose text is this, as it would a value that is too large.
    fn refuse_body(&self, body: &str) -> impl Future<Output = ()> + Send;

    /// A database with the library's tables.
    fn fresh() -> impl Future<Output = Self> + Send {
        async {
            let fixture = Self::empty().await;
            Self::DB::migrate(fixture.pool()).await.unwrap();
            fixture
        }
    }

    /// One of the user's connections.
    fn conn(&self) -> impl Future<Output = PoolConnection<Self::DB>> + Send {
        async { self.pool().acquire().await.unwrap() }
    }

    /// One number from a query.
    fn number(&self, sql: &str) -> impl Future<Output = i64> + Send {
        async move {
            let mut conn = self.conn().await;
            let numbers = Self::numbers(&mut conn, sql).await;
            assert_eq!(numbers.len(), 1, "{sql} gives {numbers:?}");
            numbers[0]
        }
    }

    /// Runs statements on a connection of their own.
    fn execute(&self, sql: &str) -> impl Future<Output = ()> + Send {
        async move {
            let mut conn = self.conn().await;
            Self::run(&mut conn, sql).await.unwrap();
        }
    }
}

/// An event to publish.
pub fn event(body: &str) -> NewEvent {
    NewEvent::new(Envelope::new(EventId::new(), "test.happened", body))
}

/// So many events to publish, numbered from zero in their bodies.
pub fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|n| event(&n.to_string())).collect()
}

/// A received event.
pub fn incoming(body: &str) -> IncomingEvent {
    IncomingEvent::new(EventId::new(), "test.happened", Body::Text(body.to_owned()))
}

/// A received event of a session.
pub fn of_session(session: &str, body: &str) -> IncomingEvent {
    let mut event = incoming(body);
    event.session_id = Some(session.to_owned());
    event
}

/// What an ingest reports.
pub fn report(inserted: u64, duplicates: u64, conflicts: u64, refused: u64) -> IngestReport {
    let mut report = IngestReport::default();
    (report.inserted, report.duplicates) = (inserted, duplicates);
    (report.conflicts, report.refused) = (conflicts, refused);
    report
}

/// The subscription of the cases that need only one.
pub const SUBSCRIPTION: &str = "billing";

/// Publishes in a transaction of its own and commits it.
pub async fn publish<F: Fixture>(fixture: &F, events: &[NewEvent]) {
    let mut tx = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
    F::DB::insert_outbox(&mut *tx, events).await.unwrap();
    tx.commit().await.unwrap();
}

/// All pending rows of the default lane that were never delayed.
pub async fn pending<F: Fixture>(fixture: &F) -> Vec<OutboxRow> {
    read_outbox(fixture, OutboxQuery::new("default", 10_000)).await
}

/// The rows of the default lane whose delay is over.
pub async fn due<F: Fixture>(fixture: &F) -> Vec<OutboxRow> {
    read_outbox(fixture, OutboxQuery::new("default", 10_000).due()).await
}

/// Outbox rows.
pub async fn read_outbox<F: Fixture>(fixture: &F, query: OutboxQuery<'_>) -> Vec<OutboxRow> {
    F::DB::read_outbox(&mut *fixture.conn().await, &query).await.unwrap()
}

/// Stores events in the inbox of the usual subscription.
pub async fn ingest<F: Fixture>(fixture: &F, events: &[IncomingEvent]) -> IngestReport {
    F::DB::ingest(&mut *fixture.conn().await, SUBSCRIPTION, events).await.unwrap()
}

/// All pending rows of the usual subscription's shard that a session belongs to.
pub async fn inbox_of<F: Fixture>(fixture: &F, session: &str) -> Vec<InboxRow> {
    let shard = distributed_events::storage::shard_of(session);
    read_inbox(fixture, InboxQuery::new(SUBSCRIPTION, shard, 10_000)).await
}

/// Inbox rows.
pub async fn read_inbox<F: Fixture>(fixture: &F, query: InboxQuery<'_>) -> Vec<InboxRow> {
    F::DB::read_inbox(&mut *fixture.conn().await, &query).await.unwrap()
}

/// Marks an inbox row as processed.
pub async fn process<F: Fixture>(fixture: &F, seqs: &[i64]) -> u64 {
    F::DB::mark_processed(&mut *fixture.conn().await, seqs).await.unwrap()
}

/// Takes one lease, which must be free.
pub async fn take<F: Fixture>(fixture: &F, name: &str) -> TakenLease {
    let taken = try_take(fixture, name).await;
    taken.unwrap_or_else(|| panic!("lease {name} is not free"))
}

/// How long the leases of the cases last.
pub const LEASE_TIME: Duration = Duration::from_secs(30);

/// Takes one lease if it is free.
pub async fn try_take<F: Fixture>(fixture: &F, name: &str) -> Option<TakenLease> {
    let names = [name.to_owned()];
    let mut conn = fixture.conn().await;
    let mut taken = F::DB::take_leases(&mut *conn, &names, Uuid::new_v4(), 1, LEASE_TIME).await.unwrap();
    assert!(taken.len() <= 1);
    taken.pop()
}

/// The bodies of outbox rows.
pub fn bodies(rows: &[OutboxRow]) -> Vec<&str> {
    rows.iter().map(|row| row.envelope.data.as_str()).collect()
}

/// The bodies of inbox rows, which must be text.
pub fn texts(rows: &[InboxRow]) -> Vec<&str> {
    rows.iter()
        .map(|row| match &row.event.body {
            Body::Text(text) => text.as_str(),
            Body::Raw(bytes) => panic!("{bytes:?} is not text"),
        })
        .collect()
}

/// Calls a macro with every case: `module: case, case; ...`.
#[macro_export]
macro_rules! for_each_storage_case {
    ($callback:ident!($($argument:tt)*)) => {
        $callback! { $($argument)*
            admin: counts_tell_open_rows_by_owner_and_age, dead_rows_are_listed_with_bytes_and_reason,
                dead_rows_are_paged_and_filtered, requeued_outbox_rows_are_pending_again,
                requeued_inbox_rows_are_pending_again, only_dead_rows_are_requeued_or_discarded,
                discard_deletes_from_the_outbox,
                sent_rows_are_sent_again, discard_keeps_the_key_in_the_inbox;
            attempts: a_retry_counts_and_waits, an_attempt_is_taken_back, a_row_ends_dead,
                an_ended_transaction_makes_any_row_dead, another_owner_or_epoch_is_refused,
                a_lost_lease_is_refused;
            chains: a_chain_is_found_across_both_tables, a_correlation_is_looked_for_among_so_many_rows,
                what_was_settled_is_counted_up_to_a_limit, a_reason_is_kept_with_the_row;
            guard: a_whole_transaction_is_committed, a_rollback_takes_the_mark_back, a_raw_commit_is_seen,
                a_raw_rollback_is_seen, an_open_savepoint_is_whole,
                a_failed_statement_never_loses_the_mark_unseen, a_published_event_commits_with_the_mark;
            inbox: rows_are_read_in_order_and_paged, blocked_sessions_hide_no_other, rows_dealt_with_are_left_out,
                odd_sessions_are_blocked_exactly, ready_shards_tell_what_waits_above_the_watermark,
                times_are_told_by_the_database, marking_counts_pending_rows_only, subscriptions_are_apart;
            ingest: a_redelivery_changes_nothing, a_repetition_within_a_batch_is_stored_once,
                concurrent_ingests_store_once, the_order_of_arrival_is_kept,
                an_id_used_by_another_event_is_kept_apart, a_conflict_within_a_batch_is_found,
                a_dead_event_is_stored_dead, a_refused_value_is_bisected_to, a_nul_in_a_name_is_kept_dead,
                a_shard_is_stored_as_hashed, an_empty_batch_does_nothing;
            leases: a_lease_has_one_holder, an_expired_lease_is_taken_uncleanly,
                a_released_lease_is_taken_cleanly, a_lease_from_the_future_counts_as_expired,
                leases_are_taken_in_the_order_asked_for, only_the_holder_renews, only_the_holder_releases,
                two_instances_never_share_a_lease, a_lane_is_bound_to_one_broker,
                instances_live_as_long_as_announced, an_instance_from_the_future_is_dead;
            local: subscriptions_are_added_and_never_taken_back,
                a_subscription_is_forgotten_with_what_it_is_owed, owed_events_are_paid_in_order,
                owing_twice_is_owing_once;
            migrations: migrating_twice_changes_nothing, eight_migrate_an_empty_database_at_once,
                missing_tables_say_what_to_do, a_migrated_database_passes_the_check,
                the_library_pool_sees_the_same_database;
            operator: outbox_rows_are_listed_by_state, inbox_rows_are_listed_by_state,
                lists_are_narrowed_by_what_is_known, a_row_is_read_whole_by_its_id, leases_and_instances_are_told,
                throughput_tells_counts_and_waits, a_span_of_time_is_sent_again, processed_rows_are_replayed,
                printed_sql_makes_the_tables, a_row_that_cannot_be_read_hides_no_other;
            outbox: a_rolled_back_event_is_never_seen, a_committed_event_keeps_every_field,
                rows_come_in_the_order_of_publishing, pages_meet_without_a_gap, lanes_are_apart,
                a_late_row_is_found_by_the_sweep, a_mark_takes_pending_rows_by_id_only, a_mark_may_delete,
                a_dead_row_leaves_the_outbox_read, a_repeated_id_is_refused_whole, delayed_rows_wait_apart,
                due_rows_come_in_the_order_of_their_times, rows_under_way_are_left_out,
                a_time_to_live_ends_by_the_database,
                an_empty_publish_writes_nothing;
            payloads: every_plane_survives_the_outbox, every_plane_survives_the_inbox,
                bytes_survive_the_inbox, a_megabyte_survives;
            retention: sent_rows_go_by_their_processed_at, slices_are_bounded, bodies_go_and_keys_stay,
                rows_go_past_the_horizon, open_and_dead_rows_never_go, discarded_rows_keep_their_key;
        }
    };
}

/// Stamps out one test for each case on a fixture.
#[macro_export]
macro_rules! storage_conformance {
    ($fixture:ty) => {
        $crate::for_each_storage_case! { storage_conformance!(@cases ($fixture)) }
    };
    (@cases ($fixture:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::conformance::$module::$case::<$fixture>().await;
            })+
        })+
    };
}

#[cfg(test)]
mod tests {
    /// A case that the list lacks would never run.
    macro_rules! listed {
        ($($module:ident: $($case:ident),+;)+) => {
            [$((
                stringify!($module),
                include_str!(concat!(stringify!($module), ".rs")),
                vec![$(stringify!($case)),+],
            )),+]
        };
    }

    #[test]
    fn every_case_is_listed() {
        for (module, source, listed) in for_each_storage_case!(listed!()) {
            let written: Vec<_> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('<').next())
                .collect();
            let missing: Vec<_> = written.iter().filter(|case| !listed.contains(case)).collect();
            assert!(missing.is_empty(), "{module} has cases that are not listed: {missing:?}");
            assert_eq!(written.len(), listed.len(), "{module}");
        }
    }
}
