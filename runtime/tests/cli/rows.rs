//! Rows in every state, made through the library's own door.

use distributed_events::storage::{
    Body, Delivery, IncomingEvent, LeaseStorage, NewEvent, SentRows, Storage, Verdict,
};
use distributed_events::{Envelope, EventId};
use sqlx::{AssertSqlSafe, Sqlite, SqlitePool};
use std::time::Duration;

/// The tables of a program's database.
pub(crate) struct Rows {
    pub(crate) pool: SqlitePool,
}

impl Rows {
    pub(crate) async fn at(url: &str) -> Self {
        Self { pool: SqlitePool::connect(url).await.unwrap() }
    }

    /// Publishes an event of a name and session.
    pub(crate) async fn publish(&self, name: &str, session: Option<&str>) -> EventId {
        let mut event = NewEvent::new(Envelope::new(EventId::new(), name, "{\"n\":1}"));
        event.envelope.session_id = session.map(str::to_owned);
        self.write(event).await
    }

    pub(crate) async fn publish_later(&self, name: &str, delay: Duration) -> EventId {
        let mut event = NewEvent::new(Envelope::new(EventId::new(), name, "{}"));
        event.deliver = Delivery::In(delay);
        self.write(event).await
    }

    async fn write(&self, event: NewEvent) -> EventId {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Sqlite::insert_outbox(&mut *tx, std::slice::from_ref(&event)).await.unwrap();
        tx.commit().await.unwrap();
        event.envelope.id
    }

    pub(crate) async fn kill(&self, id: EventId, reason: &str) {
        let mut conn = self.pool.acquire().await.unwrap();
        assert!(Sqlite::mark_outbox_dead(&mut conn, id, reason).await.unwrap());
    }

    pub(crate) async fn sent(&self, id: EventId) {
        let mut conn = self.pool.acquire().await.unwrap();
        assert_eq!(Sqlite::mark_sent(&mut conn, &[id], SentRows::Keep).await.unwrap(), 1);
    }

    /// Receives an event, of a text or of bytes.
    pub(crate) async fn receive(&self, subscription: &str, body: &[u8], dead: Option<&str>) -> EventId {
        let body = Body::from_bytes(body.to_vec());
        let mut event = IncomingEvent::new(EventId::new(), "order-placed", body);
        event.session_id = Some("order-1".to_owned());
        event.dead = dead.map(str::to_owned);
        let id = event.id;
        self.ingest(subscription, event).await;
        id
    }

    pub(crate) async fn ingest(&self, subscription: &str, event: IncomingEvent) {
        let mut conn = self.pool.acquire().await.unwrap();
        assert_eq!(Sqlite::ingest(&mut conn, subscription, &[event]).await.unwrap().inserted, 1);
    }

    pub(crate) async fn processed(&self, id: EventId) {
        let seq =
            self.number(&format!("SELECT seq FROM inbox WHERE id = x'{}'", id.as_uuid().simple())).await;
        let mut conn = self.pool.acquire().await.unwrap();
        assert_eq!(Sqlite::mark_processed(&mut conn, &[seq]).await.unwrap(), 1);
    }

    /// A failed attempt that is made again later.
    pub(crate) async fn failed_once(&self, id: EventId, reason: &str) {
        let seq =
            self.number(&format!("SELECT seq FROM inbox WHERE id = x'{}'", id.as_uuid().simple())).await;
        let mut conn = self.pool.acquire().await.unwrap();
        let lease = ["inbox:billing:07".to_owned()];
        let owner = uuid::Uuid::new_v4();
        let taken = Sqlite::take_leases(&mut conn, &lease, owner, 1, Duration::from_secs(60)).await.unwrap();
        let attempt = distributed_events::storage::Attempt::new(
            seq,
            &taken[0].fence,
            Verdict::Retry(Duration::from_secs(90)),
        );
        let attempt = attempt.counting(1).because(reason);
        assert!(Sqlite::record_attempt(&mut conn, &attempt).await.unwrap());
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }
}
