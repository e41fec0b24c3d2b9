//! Creating the tables, and doing without them.

use std::time::Duration;

use distributed_events::EventId;
use distributed_events::storage::{
    AdminStorage, Attempt, DeadRowFilter, Fence, InboxQuery, Instance, LeaseStorage, LocalStorage,
    LocalSubscription, OutboxQuery, PoolSettings, Retention, SentRows, Storage, StorageError, Table, Verdict,
};
use uuid::Uuid;

use super::{Fixture, SUBSCRIPTION, bodies, event, ingest, of_session, pending, publish};

/// Every start calls it.
pub async fn migrating_twice_changes_nothing<F: Fixture>() {
    let fixture = F::fresh().await;
    publish(&fixture, &[event("1")]).await;
    F::DB::migrate(fixture.pool()).await.unwrap();
    assert_eq!(bodies(&pending(&fixture).await), ["1"]);
    assert_eq!(fixture.number("SELECT count(*) FROM distributed_events_migrations").await, 1);
}

/// Rule 22.
pub async fn eight_migrate_an_empty_database_at_once<F: Fixture>() {
    for _ in 0..5 {
        let fixture = F::empty().await;
        let pools = futures_util::future::join_all((0..8).map(|_| fixture.another_pool())).await;
        let migrated = futures_util::future::join_all(pools.iter().map(F::DB::migrate)).await;
        for result in migrated {
            result.unwrap();
        }
        publish(&fixture, &[event("1")]).await;
        assert_eq!(fixture.number("SELECT count(*) FROM distributed_events_migrations").await, 1);
    }
}

/// Whatever is called first, the error is the same and says what to do.
pub async fn missing_tables_say_what_to_do<F: Fixture>() {
    let fixture = F::empty().await;
    let identity = F::DB::identity(fixture.pool());
    // By its own name: not every connection knows by which way it came.
    let name = identity.rsplit('/').next().unwrap();
    let said = |what: &str, error: Option<StorageError>| match error {
        Some(error @ StorageError::MissingTables { .. }) => {
            let text = error.to_string();
            assert!(text.contains("EventBus::migrate"), "{what}: {text}");
            text
        }
        other => panic!("{what}: {other:?}"),
    };
    let check = |what: &str, error: Option<StorageError>| {
        let text = said(what, error);
        assert!(text.contains(name), "{what}: {text}");
    };
    let mut tx = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
    // Not every database answers a question in a transaction that an error has broken.
    said("insert_outbox", F::DB::insert_outbox(&mut *tx, &[event("1")]).await.err());
    drop(tx);
    let mut conn = fixture.conn().await;
    let conn = &mut *conn;
    let fence = Fence::new("lease".to_owned(), Uuid::new_v4(), 1);
    let (id, names, older_than) = (EventId::new(), ["lease".to_owned()], Duration::ZERO);
    let (time, outbox, inbox) = (Duration::from_secs(1), Table::Outbox, Table::Inbox);
    check("check", F::DB::check(conn).await.err());
    check("read_outbox", F::DB::read_outbox(conn, &OutboxQuery::new("default", 1)).await.err());
    check("due", F::DB::read_outbox(conn, &OutboxQuery::new("default", 1).due()).await.err());
    check("mark_sent", F::DB::mark_sent(conn, &[id], SentRows::Keep).await.err());
    check("mark_outbox_dead", F::DB::mark_outbox_dead(conn, id, "reason").await.err());
    check("ingest", F::DB::ingest(conn, SUBSCRIPTION, &[of_session("s", "1")]).await.err());
    check("ready_shards", F::DB::ready_shards(conn, SUBSCRIPTION, &[(1, 0)]).await.err());
    check("read_inbox", F::DB::read_inbox(conn, &InboxQuery::new(SUBSCRIPTION, 1, 1)).await.err());
    check("mark_processed", F::DB::mark_processed(conn, &[1]).await.err());
    check("record_attempt", F::DB::record_attempt(conn, &Attempt::new(1, &fence, Verdict::Dead)).await.err());
    check("purge", F::DB::purge(conn, &Retention::Outbox { older_than, limit: 1 }).await.err());
    check("take_leases", F::DB::take_leases(conn, &names, fence.owner, 1, time).await.err());
    check("renew_leases", F::DB::renew_leases(conn, std::slice::from_ref(&fence), time).await.err());
    check("release_leases", F::DB::release_leases(conn, std::slice::from_ref(&fence)).await.err());
    check("bind_lane", F::DB::bind_lane(conn, "default", "local").await.err());
    check("announce", F::DB::announce(conn, &Instance::new(fence.owner, Vec::new()), time).await.err());
    check("retire", F::DB::retire(conn, fence.owner).await.err());
    check("count_outbox", F::DB::count_outbox(conn).await.err());
    check("count_inbox", F::DB::count_inbox(conn).await.err());
    check("dead_rows", F::DB::dead_rows(conn, outbox, &DeadRowFilter::default()).await.err());
    check("requeue", F::DB::requeue(conn, inbox, &[1], time, None).await.err());
    check("discard", F::DB::discard(conn, inbox, &[1], None).await.err());
    check("resend", F::DB::resend(conn, time, None).await.err());
    check("subscriptions", F::DB::subscriptions(conn).await.err());
    let subscription = LocalSubscription {
        topic: "t".to_owned(),
        name: SUBSCRIPTION.to_owned(),
        events: Vec::new(),
        store: "store".to_owned(),
    };
    check("record_subscriptions", F::DB::record_subscriptions(conn, "store", &[subscription]).await.err());
    check("forget_subscription", F::DB::forget_subscription(conn, "store", SUBSCRIPTION).await.err());
    check("owe", F::DB::owe(conn, "store", SUBSCRIPTION, &[of_session("s", "1")]).await.err());
    check("owed", F::DB::owed(conn, "store", 1).await.err());
    check("paid", F::DB::paid(conn, &[1]).await.err());
}

/// What the tests and the quickstart run on is a safe setting.
pub async fn a_migrated_database_passes_the_check<F: Fixture>() {
    let fixture = F::fresh().await;
    let pool = F::DB::open(fixture.pool(), &PoolSettings::new(2, Duration::from_secs(5))).await.unwrap();
    let warnings = F::DB::check(&mut *pool.acquire().await.unwrap()).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Rule 28: the library's pool stands beside the user's, which may be used up.
pub async fn the_library_pool_sees_the_same_database<F: Fixture>() {
    let fixture = F::fresh().await;
    ingest(&fixture, &[of_session("s", "1")]).await;
    let pool = F::DB::open(fixture.pool(), &PoolSettings::new(2, Duration::from_secs(5))).await.unwrap();
    assert_eq!(F::DB::identity(&pool), F::DB::identity(fixture.pool()));
    assert_eq!(F::DB::identity(&fixture.another_pool().await), F::DB::identity(fixture.pool()));
    let mut held = Vec::new();
    while let Some(conn) = fixture.pool().try_acquire() {
        held.push(conn);
    }
    let counts = F::DB::count_inbox(&mut *pool.acquire().await.unwrap()).await.unwrap();
    assert_eq!(counts.subscriptions[SUBSCRIPTION].pending, 1);
    assert!(pool.options().get_max_connections() == 2);
}
