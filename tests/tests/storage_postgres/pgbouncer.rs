//! Behind PgBouncer in transaction mode (rule 30).

use std::time::Duration;

use distributed_events::storage::{
    AdminStorage, Attempt, GuardOutcome, Instance, LeaseStorage, OutboxQuery, PoolSettings, SentRows,
    Storage, StorageError, Verdict,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Pool, Postgres};
use tests::conformance::{Fixture, LEASE_TIME, event, events, of_session, report};
use tests::fixtures::{PgDatabase, server};
use uuid::Uuid;

/// Seen directly.
type Direct = PgDatabase<true>;

fn through_pgbouncer(database: &Direct) -> PgConnectOptions {
    server("DISTRIBUTED_EVENTS_PGBOUNCER").parse::<PgConnectOptions>().unwrap().database(database.name())
}

async fn opened(options: PgConnectOptions) -> Pool<Postgres> {
    let users = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    Postgres::open(&users, &PoolSettings::new(2, Duration::from_secs(5))).await.unwrap()
}

/// What a service does, on its own two of the connections that share two servers.
async fn one_client(database: &Direct, client: usize, rounds: usize) {
    let pool = opened(through_pgbouncer(database).statement_cache_capacity(0)).await;
    let mut conn = pool.acquire().await.unwrap();
    assert!(Postgres::check(&mut conn).await.unwrap().is_empty());
    let lane = format!("lane {client}");
    let subscription = format!("subscription {client}");
    let names = [format!("lease {client}"), "lease of all".to_owned()];
    let owner = Uuid::new_v4();
    let taken = Postgres::take_leases(&mut conn, &names[..1], owner, 1, LEASE_TIME).await.unwrap();
    let fence = taken[0].fence.clone();
    for round in 0..rounds {
        let mut published = events(3);
        published.iter_mut().for_each(|event| event.envelope.lane.clone_from(&lane));
        let mut tx = pool.begin().await.unwrap();
        Postgres::insert_outbox(&mut tx, &published).await.unwrap();
        tx.commit().await.unwrap();
        let rows = Postgres::read_outbox(&mut conn, &OutboxQuery::new(&lane, 10)).await.unwrap();
        assert_eq!(
            rows.iter().map(|row| row.envelope.id).collect::<Vec<_>>(),
            published.iter().map(|event| event.envelope.id).collect::<Vec<_>>()
        );
        let mut horizon = Postgres::horizon(&mut conn).await.unwrap();
        assert!(!Postgres::has_passed(&mut conn, &mut horizon).await.unwrap());
        let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
        assert_eq!(Postgres::mark_sent(&mut conn, &ids, SentRows::Keep).await.unwrap(), 3);

        let received = [of_session("s", "1"), of_session("s", "2")];
        assert_eq!(Postgres::ingest(&mut conn, &subscription, &received).await.unwrap(), report(2, 0, 0, 0));
        assert_eq!(Postgres::ingest(&mut conn, &subscription, &received).await.unwrap(), report(0, 2, 0, 0));
        let shard = distributed_events::storage::shard_of("s");
        let ready = Postgres::ready_shards(&mut conn, &subscription, &[(shard, 0)]).await.unwrap();
        assert_eq!(ready, [shard]);
        let query = distributed_events::storage::InboxQuery::new(&subscription, shard, 10);
        let rows = Postgres::read_inbox(&mut conn, &query).await.unwrap();
        assert_eq!(rows.len(), 2);
        let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_secs(5)).await.unwrap();
        let seqs = [rows[0].seq];
        assert_eq!(Postgres::mark_processed(&mut tx, &seqs).await.unwrap(), 1);
        Postgres::insert_outbox(&mut tx, &[event("handled")]).await.unwrap();
        assert_eq!(Postgres::close_guard(&mut tx, &seqs).await.unwrap(), GuardOutcome::Whole);
        tx.commit().await.unwrap();
        let attempt = Attempt::new(rows[1].seq, &fence, Verdict::Dead).because("x");
        assert!(Postgres::record_attempt(&mut conn, &attempt).await.unwrap());

        let held = Postgres::renew_leases(&mut conn, std::slice::from_ref(&fence), LEASE_TIME).await.unwrap();
        assert_eq!(held, names[..1], "round {round}");
        let me = Instance::new(owner, Vec::new());
        assert!(Postgres::announce(&mut conn, &me, LEASE_TIME).await.unwrap().contains(&me));
        for lease in Postgres::take_leases(&mut conn, &names[1..], owner, 1, LEASE_TIME).await.unwrap() {
            Postgres::release_leases(&mut conn, &[lease.fence]).await.unwrap();
        }
    }
    Postgres::release_leases(&mut conn, &[fence]).await.unwrap();
}

/// Six clients with two connections each on two servers.
#[tokio::test]
async fn many_clients_share_few_servers() {
    let database = Direct::empty().await;
    Postgres::migrate(&opened(through_pgbouncer(&database).statement_cache_capacity(0)).await).await.unwrap();
    let clients = (0..6).map(|client| one_client(&database, client, 20));
    futures_util::future::join_all(clients).await;
    let count = async |sql: &'static str| database.number(sql).await;
    assert_eq!(count("SELECT count(*) FROM outbox WHERE status = 'sent'").await, 6 * 20 * 3);
    assert_eq!(count("SELECT count(*) FROM outbox WHERE event_data = 'handled'").await, 6 * 20);
    assert_eq!(count("SELECT count(*) FROM inbox WHERE status = 'processed'").await, 6 * 20);
    assert_eq!(count("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 6 * 20);
    let servers = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(count(servers).await <= 2 + 4, "the two servers, and this test's own connections");
}

/// Names of statements don't work there, which is said at the start and not by the first handler that fails.
#[tokio::test]
async fn a_pool_with_named_statements_is_refused() {
    let database = Direct::fresh().await;
    let settings = PoolSettings::new(2, Duration::from_secs(5));
    let users = PgPoolOptions::new().max_connections(1).connect_lazy_with(through_pgbouncer(&database));
    let StorageError::Unsafe(text) = Postgres::open(&users, &settings).await.unwrap_err() else {
        panic!("it was opened");
    };
    assert!(text.contains("PgBouncer") && text.contains("statement_cache_capacity(0)"), "{text}");
}

/// The same of a publisher's own connection, whose server another client has used meanwhile.
#[tokio::test]
async fn a_misnamed_statement_says_what_to_set() {
    let database = Direct::fresh().await;
    let mut conn = database.conn().await;
    Postgres::count_inbox(&mut conn).await.unwrap();
    Direct::run(&mut conn, "DEALLOCATE ALL").await.unwrap();
    let StorageError::Unsafe(text) = Postgres::count_inbox(&mut conn).await.unwrap_err() else {
        panic!("it was counted");
    };
    assert!(text.contains("statement_cache_capacity(0)"), "{text}");
}
