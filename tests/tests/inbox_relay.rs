//! The inbox relay against a broker that does what a test asks for: store, commit, then settle.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::broker::{Message, Source};
use distributed_events::{InboxSettings, IncidentKind};
use tests::broker_conformance::{Noted, noting};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick, quick_inbox};

#[path = "inbox_relay/identity.rs"]
mod identity;
#[path = "inbox_relay/messages.rs"]
mod messages;
#[path = "inbox_relay/settling.rs"]
mod settling;
#[path = "inbox_relay/storing.rs"]
mod storing;

/// A subscriber's database, its broker, and what it has told.
struct Inbox {
    database: Database,
    broker: MemoryBroker,
    source: Source,
    incidents: Arc<Mutex<Vec<(IncidentKind, String)>>>,
}

impl Inbox {
    async fn new() -> Self {
        let inbox = Self {
            database: Database::new().await,
            broker: MemoryBroker::new(),
            source: Source::new("events", "audit"),
            incidents: Arc::default(),
        };
        // So that the subscription is there.
        let _known = inbox.build(quick_inbox());
        inbox
    }

    fn build(&self, settings: InboxSettings) -> distributed_events::EventBus<sqlx::Sqlite> {
        let incidents = Arc::clone(&self.incidents);
        // No statement waits long for a lock, so that trouble shows at once.
        let builder = quick(&self.database.pool)
            .inbox(settings.handler_timeout(Duration::from_millis(150)))
            .busy_timeout(Duration::from_millis(200))
            .broker(self.broker.clone())
            .on_incident(move |incident| {
                incidents.lock().unwrap().push((incident.kind, incident.message.clone()))
            });
        noting(builder, "audit", |event: &Noted, _| event.text.clone()).build().unwrap()
    }

    fn start(&self) -> Running {
        self.start_as(quick_inbox().backoff(Duration::from_millis(10), Duration::from_millis(50)))
    }

    fn start_as(&self, settings: InboxSettings) -> Running {
        Running::start(self.build(settings))
    }

    fn enqueue(&self, message: Message) {
        self.broker.enqueue(&self.source, message);
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.database.pool).await.unwrap();
    }

    /// Waits for so many messages to be completed.
    async fn completed(&self, count: u64) {
        let what = format!("{count} messages are completed");
        eventually(&what, || async { self.broker.completed(&self.source) }, |completed| *completed == count)
            .await;
    }

    async fn effects(&self, count: usize) -> Vec<String> {
        tests::broker_conformance::effects(&self.database, count).await
    }

    async fn told(&self, kind: IncidentKind, count: usize) {
        let seen = || async { self.incidents.lock().unwrap().clone() };
        let counted =
            |seen: &Vec<(IncidentKind, String)>| seen.iter().filter(|(other, _)| *other == kind).count();
        eventually(&format!("{count} incidents of {kind:?}"), seen, |seen| counted(seen) >= count).await;
    }

    /// The only row's state and reason.
    async fn row(&self) -> (String, Option<String>) {
        sqlx::query_as("SELECT status, last_error FROM inbox").fetch_one(&self.database.pool).await.unwrap()
    }
}

/// A message as any sender may have made it: an id, a subject, a body.
fn message(id: &str, text: &str) -> Message {
    let mut message = Message::default();
    message.message_id = Some(id.to_owned());
    message.subject = Some("test.noted".to_owned());
    message.body = body(text);
    message
}

fn body(text: &str) -> Vec<u8> {
    serde_json::to_vec(&Noted::new(text)).unwrap()
}

fn fresh(text: &str) -> Message {
    message(&uuid::Uuid::now_v7().to_string(), text)
}
