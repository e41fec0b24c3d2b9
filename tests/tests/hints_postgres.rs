//! Hints between processes by LISTEN and NOTIFY. Each listener here is a process of its own as far as PostgreSQL can tell.

use std::sync::{Arc, Mutex};

use distributed_events::storage::{Hint, HintStorage};
use sqlx::Postgres;
use tests::conformance::Fixture;
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tokio::task::JoinHandle;
use uuid::Uuid;

struct Listener {
    me: Uuid,
    heard: Arc<Mutex<Vec<Hint>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens once it has heard everything, as it does at the beginning.
    async fn start(database: &PgDatabase) -> Self {
        let (me, heard, pool) = (Uuid::new_v4(), Arc::<Mutex<Vec<Hint>>>::default(), database.pool().clone());
        let noted = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            Postgres::listen(&pool, me, |hint| noted.lock().unwrap().push(hint)).await.unwrap();
        });
        let listener = Self { me, heard, task };
        listener.hears(&[Hint::Published, Hint::Received]).await;
        listener
    }

    /// Waits until it has heard this, and forgets it.
    async fn hears(&self, expected: &[Hint]) {
        eventually("heard", || async { self.heard.lock().unwrap().clone() }, |heard| heard == expected).await;
        self.heard.lock().unwrap().clear();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn notify(database: &PgDatabase, from: Uuid, hints: &[Hint]) {
    Postgres::notify(&mut *database.conn().await, from, hints).await.unwrap();
}

#[tokio::test]
async fn a_hint_reaches_everybody_but_its_sender() {
    let database = PgDatabase::fresh().await;
    let [one, two] = [Listener::start(&database).await, Listener::start(&database).await];
    notify(&database, one.me, &[Hint::Published]).await;
    two.hears(&[Hint::Published]).await;
    notify(&database, two.me, &[Hint::Received, Hint::Published]).await;
    one.hears(&[Hint::Published, Hint::Received]).await;
    assert!(two.heard.lock().unwrap().is_empty());
    notify(&database, Uuid::nil(), &[]).await;
    notify(&database, Uuid::nil(), &[Hint::Received]).await;
    one.hears(&[Hint::Received]).await;
    two.hears(&[Hint::Received]).await;
}

#[tokio::test]
async fn what_was_said_while_the_connection_was_lost_counts_as_heard() {
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(database.number(kill).await, 1);
    listener.hears(&[Hint::Published, Hint::Received]).await;
    notify(&database, Uuid::nil(), &[Hint::Published]).await;
    listener.hears(&[Hint::Published]).await;
}

#[tokio::test]
async fn another_applications_words_on_the_channel_are_passed_over() {
    let database = PgDatabase::fresh().await;
    let listener = Listener::start(&database).await;
    for words in ["", "published", "nonsense of nobody", "received \u{1F980}"] {
        database.execute(&format!("NOTIFY distributed_events, '{words}'")).await;
    }
    listener.hears(&[Hint::Received]).await;
}
