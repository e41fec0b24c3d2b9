//! An inbox relay stores two batches at a time here: in the order in which they came, and none after one that failed.

use std::sync::Arc;
use std::time::Duration;

use distributed_events::broker::{Broker, Message, Service, Source, Subscription};
use distributed_events::storage::PoolInbox;
use distributed_events::{InboxRelay, InboxSettings, Shutdown};
use sqlx::{AssertSqlSafe, PgConnection};
use tests::conformance::Fixture;
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tests::memory_broker::MemoryBroker;
use uuid::Uuid;

const EVENTS: usize = 4;

/// A relay that takes two messages at a time, and four that are ready.
struct Side {
    database: PgDatabase,
    broker: MemoryBroker,
    source: Source,
    ids: Vec<String>,
}

impl Side {
    async fn new() -> Self {
        let source = Source::new("events", "audit");
        let (broker, database) = (MemoryBroker::new(), PgDatabase::fresh().await);
        let subscription = Subscription::new("events".to_owned(), "audit".to_owned(), Vec::new());
        let store = Arc::new(PoolInbox::new(database.pool().clone()));
        broker.attach(Service::new(store, vec![subscription]));
        let ids: Vec<_> = (0..EVENTS).map(|_| Uuid::new_v4().to_string()).collect();
        for id in &ids {
            let mut message = Message::default();
            message.message_id = Some(id.clone());
            message.subject = Some("test.noted".to_owned());
            message.body = b"{}".to_vec();
            message.session_id = Some("one".to_owned());
            broker.enqueue(&source, message);
        }
        Self { database, broker, source, ids }
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let (handle, stop) = Shutdown::new();
        let settings = InboxSettings::default()
            .receive_batch(EVENTS / 2)
            .backoff(Duration::from_millis(10), Duration::from_millis(50));
        let broker: Arc<dyn Broker> = Arc::new(self.broker.clone());
        let relay =
            InboxRelay::new(self.database.pool().clone(), broker, self.source.clone()).settings(settings);
        tokio::spawn(async move {
            relay.run(stop).await;
            drop(handle);
        })
    }

    async fn conn(&self) -> PgConnection {
        self.database.conn().await.detach()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.conn().await).await.unwrap()
    }

    async fn waits(&self, what: &str, sql: &'static str) {
        eventually(what, || self.number(sql), |count| *count == 1).await;
    }

    /// What is stored, as it will be processed.
    async fn stored(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT message_id FROM inbox ORDER BY seq")
            .fetch_all(&mut self.conn().await)
            .await
            .unwrap()
    }

    async fn stores_all_in_order(&self) {
        let completed = || async { self.broker.completed(&self.source) };
        eventually("all are completed", completed, |count| *count == EVENTS as u64).await;
        assert_eq!(self.stored().await, self.ids);
    }
}

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO inbox%'";

const INSERTED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND state = 'idle in transaction' AND query LIKE 'WITH clock%INTO inbox%'";

#[tokio::test]
async fn a_batch_is_inserted_after_the_one_before_it() {
    let side = Side::new().await;
    // Another has the first event's key, and doesn't commit.
    let mut other = side.conn().await;
    let first = &side.ids[0];
    let hold = format!(
        "BEGIN; INSERT INTO inbox (subscription, id, message_id, event_type, shard) \
         VALUES ('audit', '{first}', '{first}', 'test.noted', 0)"
    );
    sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut other).await.unwrap();
    let relay = side.start();
    side.waits("the first batch waits for a key", BLOCKED).await;
    let received = || async { side.broker.received(&side.source) };
    eventually("the second batch is there", received, |count| *count == EVENTS).await;
    // Long enough for one that would not wait.
    for _ in 0..100 {
        assert_eq!(side.number(INSERTED).await, 0, "the second batch is inserted before the first");
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    side.stores_all_in_order().await;
    relay.abort();
}

/// The first batch's commit waits for an advisory lock, then fails.
const TRIGGER: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    PERFORM pg_advisory_xact_lock(1); RAISE EXCEPTION 'not today' USING ERRCODE = 'disk_full'; END $$; \
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED \
    FOR EACH ROW WHEN (NEW.message_id = '{first}') EXECUTE FUNCTION refuse()";

const COMMITTING: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query = 'COMMIT'";

#[tokio::test]
async fn a_batch_is_inserted_while_the_one_before_it_commits_and_goes_where_that_fails() {
    let side = Side::new().await;
    let mut other = side.conn().await;
    let trigger = TRIGGER.replace("{first}", &side.ids[0]);
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut other).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut other).await.unwrap();
    let relay = side.start();
    side.waits("the first batch commits", COMMITTING).await;
    side.waits("the second batch is inserted", INSERTED).await;
    assert_eq!(side.stored().await, Vec::<String>::new());
    sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut other).await.unwrap();
    let abandoned = || async { side.broker.abandoned() };
    eventually("all are given back", abandoned, |count| *count >= EVENTS).await;
    assert_eq!(side.stored().await, Vec::<String>::new());
    sqlx::raw_sql("DROP TRIGGER refuse ON inbox").execute(&mut other).await.unwrap();
    side.stores_all_in_order().await;
    relay.abort();
}
