//! The outbox relay against a broker that does what a test asks for.

use std::sync::{Arc, Mutex};

use distributed_events::storage::{NewEvent, Storage};
use distributed_events::{BusBuilder, Envelope, EventId, IncidentKind, OutboxSettings};
use sqlx::Sqlite;
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick, quick_outbox};

#[path = "outbox_relay/failures.rs"]
mod failures;
#[path = "outbox_relay/leaders.rs"]
mod leaders;
#[path = "outbox_relay/marks.rs"]
mod marks;
#[path = "outbox_relay/rows.rs"]
mod rows;
#[path = "outbox_relay/sessions.rs"]
mod sessions;

/// A database, a broker, and what the relays have told.
struct Outbox {
    database: Database,
    broker: MemoryBroker,
    incidents: Arc<Mutex<Vec<(IncidentKind, String)>>>,
}

impl Outbox {
    async fn new() -> Self {
        Self { database: Database::new().await, broker: MemoryBroker::new(), incidents: Arc::default() }
    }

    fn builder(&self) -> BusBuilder<Sqlite> {
        let incidents = Arc::clone(&self.incidents);
        quick(&self.database.pool).broker(self.broker.clone()).on_incident(move |incident| {
            incidents.lock().unwrap().push((incident.kind, incident.message.clone()));
        })
    }

    fn start(&self) -> Running {
        Running::start(self.builder().build().unwrap())
    }

    /// With small batches, so many side by side.
    fn start_with(&self, batch_size: usize, in_flight: usize) -> Running {
        self.start_as(quick_outbox().batch_size(batch_size).in_flight(in_flight))
    }

    fn start_as(&self, settings: OutboxSettings) -> Running {
        Running::start(self.builder().outbox(settings).build().unwrap())
    }

    /// Publishes in one transaction.
    async fn publish(&self, events: Vec<Envelope>) {
        let events: Vec<_> = events.into_iter().map(NewEvent::new).collect();
        let mut tx = self.database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Sqlite::insert_outbox(&mut tx, &events).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.database.pool).await.unwrap();
    }

    /// What became of the row with this body, and why.
    async fn row(&self, body: &str) -> Option<(String, Option<String>)> {
        sqlx::query_as("SELECT status, last_error FROM outbox WHERE event_data = ?")
            .bind(body)
            .fetch_optional(&self.database.pool)
            .await
            .unwrap()
    }

    async fn sent(&self, count: i64) {
        let sql = "SELECT COUNT(*) FROM outbox WHERE status = 'sent'";
        let what = format!("{count} rows are marked as sent");
        eventually(&what, || self.database.number(sql), |sent| *sent == count).await;
    }

    async fn batches(&self, count: usize) {
        let what = format!("{count} batches have arrived");
        eventually(&what, || async { self.broker.batches().len() }, |batches| *batches >= count).await;
    }

    async fn under_way(&self, count: usize) {
        let what = format!("{count} batches are under way");
        eventually(&what, || async { self.broker.under_way() }, |batches| *batches == count).await;
    }

    async fn told(&self, kind: IncidentKind, count: usize) {
        let seen = || async { self.incidents.lock().unwrap().clone() };
        let counted =
            |seen: &Vec<(IncidentKind, String)>| seen.iter().filter(|(other, _)| *other == kind).count();
        eventually(&format!("{count} incidents of {kind:?}"), seen, |seen| counted(seen) >= count).await;
    }
}

fn event(body: &str) -> Envelope {
    Envelope::new(EventId::new(), "test.happened", body)
}

fn of(session: &str, body: &str) -> Envelope {
    let mut event = event(body);
    event.session_id = Some(session.to_owned());
    event
}

fn on(topic: &str, mut event: Envelope) -> Envelope {
    event.topic = Some(topic.to_owned());
    event
}

fn numbered(count: usize) -> Vec<Envelope> {
    (0..count).map(|number| event(&number.to_string())).collect()
}
