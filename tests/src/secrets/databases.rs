//! The password in a database's URL.

use std::sync::{Arc, Mutex};

use distributed_events::broker::Source;
use distributed_events::storage::{Connections, PoolInbox, PoolSettings, Storage};
use distributed_events::{
    DistributedEvent, EventBus, HandlerError, HandlerSettings, InboxRelay, LocalBroker, OutboxRelay, admin,
};
use sqlx::Pool;

use super::Shown;
use crate::broker_conformance::Noted;
use crate::eventually::eventually;
use crate::fixtures::Users;
use crate::memory_broker::MemoryBroker;
use crate::rules::{beside, plain_builder};

/// The user's password.
const PASSWORD: &str = "right+Canary/of=a?database&user";
/// One that is somebody's all the same.
const WRONG: &str = "wrong+Canary/of=a?database&user";

/// A database whose user has to show a password, and what a run on it shows.
struct Guarded<F: Users> {
    shown: Shown,
    fixture: F,
    user: String,
    incidents: Arc<Mutex<Vec<String>>>,
}

/// From the first connection to the last trouble.
pub async fn a_run_shows_no_password<F: Users>() {
    let fixture = F::empty().await;
    let user = format!("{}_canary", fixture.database());
    fixture.create_user(&user, PASSWORD).await;
    let guarded = Guarded { shown: Shown::new(), fixture, user, incidents: Arc::default() };
    let pool = guarded.fixture.pool_as(&guarded.user, PASSWORD);
    guarded.start_without_tables(&pool).await;
    EventBus::migrate(&pool).await.unwrap();
    F::run(&mut pool.acquire().await.unwrap(), F::EFFECTS).await.unwrap();
    guarded.exchange(&pool).await;
    // At once, so that those runs are short from which something is left out.
    guarded.shown.holds_none_of(&[PASSWORD, WRONG]);
    guarded.change_the_password(&pool).await;
    guarded.use_a_wrong_password().await;
    guarded.bind_a_lane_elsewhere(&pool).await;
    guarded.look_at_the_loops(&pool).await;
    let shown = &guarded.shown;
    shown.text("an incident", guarded.incidents.lock().unwrap().join("\n"));
    shown.has_logs_of(&["distributed_events", "sqlx"]);
    shown.holds_none_of(&[PASSWORD, WRONG]);
}

impl<F: Users> Guarded<F> {
    /// A service that handles its own events; one is refused.
    fn bus(&self, pool: &Pool<F::DB>) -> EventBus<F::DB> {
        let incidents = Arc::clone(&self.incidents);
        let builder = plain_builder(pool.clone())
            .on_incident(move |incident| incidents.lock().unwrap().push(format!("{incident:?}")))
            .on(HandlerSettings::new("audit"), |event: Noted, tx, _| {
                Box::pin(async move {
                    let table = if event.text == "refused" { "nowhere" } else { "effects" };
                    let sql = format!("INSERT INTO {table} (n, instance) VALUES (1, '')");
                    F::run(&mut **tx, &sql).await.map_err(HandlerError::from)
                })
            });
        self.shown.debug("BusBuilder", &builder);
        let bus = builder.build().unwrap();
        self.shown.debug("EventBus", &bus);
        bus
    }

    async fn publish(&self, pool: &Pool<F::DB>, text: &str) {
        let mut tx = pool.begin_with(F::DB::BEGIN).await.unwrap();
        Noted::new(text).publish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn effects(&self, count: i64) {
        let look = || self.fixture.number("SELECT count(*) FROM effects");
        eventually("effects", look, |found| *found >= count).await;
    }

    async fn told(&self, text: &str) {
        let look = || async { self.incidents.lock().unwrap().iter().any(|incident| incident.contains(text)) };
        eventually(text, look, |told| *told).await;
    }

    async fn start_without_tables(&self, pool: &Pool<F::DB>) {
        self.shown.debug("a pool", pool);
        self.shown.failure("a start without tables", self.bus(pool).run_until(std::future::pending()).await);
        let mut tx = pool.begin_with(F::DB::BEGIN).await.unwrap();
        self.shown.failure("a publish without tables", Noted::new("lost").publish(&mut tx).await);
    }

    async fn exchange(&self, pool: &Pool<F::DB>) {
        let bus = self.bus(pool);
        beside(&bus, async {
            self.publish(pool, "refused").await;
            self.publish(pool, "first").await;
            self.effects(1).await;
            self.told("EventDead").await;
            self.shown.debug("EventBus that runs", &bus);
        })
        .await;
        self.shown.debug("the subscriptions", &admin::subscriptions(pool).await.unwrap());
        self.shown.text("Storage::identity", F::DB::identity(pool));
    }

    /// Under a bus that runs, whose connections are cut; it is told the old one again at last.
    async fn change_the_password(&self, pool: &Pool<F::DB>) {
        let bus = self.bus(pool);
        beside(&bus, async {
            self.publish(pool, "second").await;
            self.effects(2).await;
            self.fixture.change_password(&self.user, WRONG).await;
            self.fixture.cut_connections().await;
            self.told("DatabaseTrouble").await;
            let refused = || async { pool.acquire().await.err() };
            let refused = eventually("nobody is let in", refused, Option::is_some).await;
            self.shown.error("a connection", &refused.unwrap());
            self.fixture.change_password(&self.user, PASSWORD).await;
            self.publish(pool, "third").await;
            self.effects(3).await;
        })
        .await;
    }

    async fn use_a_wrong_password(&self) {
        let wrong = self.fixture.pool_as(&self.user, WRONG);
        let shown = &self.shown;
        shown.failure("a connection that the server should refuse (tests/servers)", wrong.acquire().await);
        shown.failure("migrate", EventBus::migrate(&wrong).await);
        shown.failure("a start", self.bus(&wrong).run_until(std::future::pending()).await);
        shown.failure("admin", admin::count_outbox(&wrong).await);
        let settings = PoolSettings::new(1, std::time::Duration::from_secs(1));
        shown.failure("Storage::open", F::DB::open(&wrong, &settings).await);
        shown.debug("PoolInbox", &PoolInbox::beside(wrong, settings));
    }

    /// Rule 23: the other's name stands in the database and in the error.
    async fn bind_a_lane_elsewhere(&self, pool: &Pool<F::DB>) {
        let bus = self.bus(pool);
        beside(&bus, async {
            self.publish(pool, "fourth").await;
            self.effects(4).await;
            let other = EventBus::builder(pool.clone()).broker(MemoryBroker::new()).build().unwrap();
            self.shown.failure("a lane", other.run_until(std::future::pending()).await);
        })
        .await;
    }

    async fn look_at_the_loops(&self, pool: &Pool<F::DB>) {
        let broker = Arc::new(LocalBroker::new());
        let connections = Connections::from(pool.clone());
        self.shown.debug("Writer", &connections.write().await.unwrap());
        self.shown.debug("OutboxRelay", &OutboxRelay::new(connections.clone(), broker.clone()));
        let source = Source::new("events", "audit");
        self.shown.debug("InboxRelay", &InboxRelay::new(connections.clone(), broker, source));
        self.shown.debug("Connections", &connections);
        self.shown.debug("PoolInbox", &PoolInbox::over(connections));
    }
}
