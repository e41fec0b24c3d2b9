//! The least that each user of a database has to be allowed: taken from the manual's chapter on rights, so that the two can't
//! drift, and tried out.

use std::sync::Arc;
use std::time::Duration;

use distributed_events::broker::{Service, Source};
use distributed_events::storage::{
    DeadRowFilter, LocalStorage, PoolInbox, PoolSettings, Retention, SentRows, Storage, Table,
};
use distributed_events::{
    Broker, DistributedEvent, EventBus, HandlerSettings, InboxRelay, OutboxRelay, Shutdown, admin,
};
use sqlx::{Database, Pool};

use crate::broker_conformance::Noted;
use crate::eventually::eventually;
use crate::fixtures::Users;
use crate::memory_broker::MemoryBroker;
use crate::rules::{beside, plain_builder};
use crate::service::{quick_inbox, quick_outbox};

const CHAPTER: &str = include_str!("../../runtime/src/manual/rights.md");

/// The users of the chapter, without the database's name before theirs, and what each must not do.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("migration", &["CREATE DATABASE stolen", "CREATE USER stolen"]),
    (
        "service",
        &[
            "DROP TABLE orders",
            "DROP TABLE outbox",
            "ALTER TABLE orders ADD stolen INT",
            "ALTER TABLE inbox ADD stolen INT",
            "TRUNCATE TABLE inbox",
            "CREATE TABLE stolen (n INT)",
            "CREATE INDEX stolen ON outbox (seq)",
            "INSERT INTO distributed_events_migrations SELECT * FROM distributed_events_migrations",
            "DELETE FROM distributed_events_migrations",
            "UPDATE distributed_events_migrations SET version = 2",
            "CREATE USER stolen",
        ],
    ),
    (
        "relay",
        &[
            "SELECT * FROM orders",
            "INSERT INTO orders (n) VALUES (1)",
            "UPDATE orders SET n = 1",
            "DELETE FROM orders",
            "DELETE FROM outbox",
            "DELETE FROM inbox",
            "INSERT INTO outbox (id, event_type, event_data) SELECT id, event_type, event_data FROM outbox",
            "SELECT * FROM distributed_events_instances",
            "SELECT * FROM distributed_events_owed",
            "DROP TABLE outbox",
            "ALTER TABLE inbox ADD stolen INT",
            "TRUNCATE TABLE outbox",
            "CREATE TABLE stolen (n INT)",
            "CREATE USER stolen",
        ],
    ),
];

/// The SQL of the chapter for this kind of database: what comes before the migration, and what after it.
fn documented<F: Users>(database: &str) -> [String; 2] {
    let (_, section) = CHAPTER.split_once(&format!("\n# {}\n", F::CHAPTER)).unwrap();
    let section = section.split("\n# ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<_> = blocks.map(|sql| sql.replace("shop", database)).collect();
    blocks.try_into().unwrap()
}

/// A database with the users of the chapter, and nothing granted beside it.
struct Rights<F: Users> {
    fixture: F,
}

impl<F: Users> Rights<F> {
    async fn new() -> Self {
        let fixture = F::empty().await;
        let [before, after] = documented::<F>(fixture.database());
        let names = FORBIDDEN.map(|(user, _)| format!("{}_{user}", fixture.database()));
        fixture.administer(&before).await;
        fixture.has_users(&names).await;
        let rights = Self { fixture };
        let migration = rights.pool("migration");
        EventBus::migrate(&migration).await.unwrap();
        let mut conn = migration.acquire().await.unwrap();
        F::run(&mut conn, "CREATE TABLE orders (n INT)").await.unwrap();
        rights.fixture.administer(&after).await;
        // Once more, as at the next deployment.
        EventBus::migrate(&migration).await.unwrap();
        rights
    }

    fn pool(&self, user: &str) -> Pool<F::DB> {
        let name = format!("{}_{user}", self.fixture.database());
        self.fixture.pool_as(&name, &format!("change me: {user}"))
    }

    async fn publish(&self, pool: &Pool<F::DB>, texts: &[&str]) {
        let events: Vec<_> = texts.iter().map(|text| Noted::of("s", text)).collect();
        let mut tx = pool.begin_with(F::DB::BEGIN).await.unwrap();
        F::run(&mut tx, "INSERT INTO orders (n) VALUES (0)").await.unwrap();
        Noted::publish_all(&mut tx, &events).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn number_is(&self, sql: &str, expected: i64) {
        eventually(sql, || self.fixture.number(sql), |found| *found == expected).await;
    }

    /// A service, which handles its own events with the rights of its user.
    fn bus(&self, pool: &Pool<F::DB>) -> EventBus<F::DB> {
        let builder = plain_builder(pool.clone()).on(HandlerSettings::new("audit"), |event: Noted, tx, _| {
            Box::pin(async move {
                if event.text == "refused" {
                    return Err("refused".into());
                }
                F::run(&mut **tx, "UPDATE orders SET n = n + 1").await?;
                if event.text == "first" {
                    Noted::of("s", "from a handler").publish(tx).await?;
                }
                Ok(())
            })
        });
        builder.build().unwrap()
    }
}

/// Publishing, both relays, handling, retention, and what operators do, by the users that are for it.
pub async fn the_documented_rights_are_enough<F: Users>() {
    let rights = Rights::<F>::new().await;
    let (service, relay) = (rights.pool("service"), rights.pool("relay"));
    rights.publish(&service, &["first", "refused", "second"]).await;
    relay_alone(&rights, &relay).await;
    let bus = rights.bus(&service);
    beside(&bus, async {
        // Three of them with the relays, and one that the first one's handler has published.
        rights.number_is("SELECT count(*) FROM inbox WHERE status = 'processed'", 3).await;
        rights.number_is("SELECT count(*) FROM inbox WHERE status = 'dead'", 1).await;
        rights.publish(&service, &["third"]).await;
        rights.number_is("SELECT count(*) FROM inbox WHERE status = 'processed'", 4).await;
    })
    .await;
    operate::<F>(&service).await;
}

/// From the outbox to a broker and from there to the inbox, in a process that does nothing else.
async fn relay_alone<F: Users>(rights: &Rights<F>, relay: &Pool<F::DB>) {
    let broker = MemoryBroker::new();
    let store = Arc::new(PoolInbox::new(relay.clone()));
    let subscription = distributed_events::broker::Subscription::new(
        "events".to_owned(),
        "audit".to_owned(),
        vec![Noted::NAME.to_owned()],
    );
    broker.attach(Service::new(store, vec![subscription]));
    let own = F::DB::open(relay, &PoolSettings::new(4, Duration::from_secs(2))).await.unwrap();
    let (handle, stop) = Shutdown::new();
    let outbox = OutboxRelay::new(own.clone(), Arc::new(broker.clone())).settings(quick_outbox());
    let source = Source::new("events", "audit");
    let inbox = InboxRelay::new(own, Arc::new(broker), source).settings(quick_inbox());
    let both = async { tokio::join!(outbox.run(stop.clone()), inbox.run(stop)) };
    let seen = async {
        rights.number_is("SELECT count(*) FROM inbox WHERE status = 'pending'", 3).await;
        rights.number_is("SELECT count(*) FROM outbox WHERE status = 'sent'", 3).await;
        handle.stop();
    };
    tokio::join!(both, seen);
}

/// What is left: the statements of operators, of retention, and of a local broker whose subscriber is away.
async fn operate<F: Users>(service: &Pool<F::DB>) {
    admin::count_outbox(service).await.unwrap();
    admin::count_inbox(service).await.unwrap();
    let dead = admin::dead_rows(service, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(admin::discard(service, Table::Inbox, &[dead[0].seq]).await.unwrap(), 1);
    admin::requeue(service, Table::Inbox, &[dead[0].seq], Duration::ZERO).await.unwrap();
    admin::discard(service, Table::Outbox, &[-1]).await.unwrap();
    admin::resend(service, Duration::from_secs(3600), None).await.unwrap();
    for subscription in admin::subscriptions(service).await.unwrap() {
        admin::forget_subscription(service, &subscription.store, &subscription.name).await.unwrap();
    }
    let mut conn = service.acquire().await.unwrap();
    let conn: &mut <F::DB as Database>::Connection = &mut conn;
    let (older_than, limit) = (Duration::ZERO, 1000);
    for retention in [
        Retention::Outbox { older_than, limit },
        Retention::InboxBodies { older_than, limit },
        Retention::InboxRows { older_than, limit },
    ] {
        F::DB::purge(conn, &retention).await.unwrap();
    }
    let event = crate::rules::received(&crate::rules::step("s", 1));
    F::DB::owe(conn, "store", "audit", &[event]).await.unwrap();
    let owed = F::DB::owed(conn, "store", 10).await.unwrap();
    assert_eq!(owed.len(), 1);
    F::DB::paid(conn, &[owed[0].seq]).await.unwrap();
    F::DB::mark_sent(conn, &[distributed_events::EventId::new()], SentRows::Delete).await.unwrap();
}

/// What nobody has granted is refused.
pub async fn the_documented_rights_allow_nothing_else<F: Users>() {
    let rights = Rights::<F>::new().await;
    for (user, forbidden) in FORBIDDEN {
        let pool = rights.pool(user);
        for sql in forbidden {
            let refused = F::run(&mut pool.acquire().await.unwrap(), sql).await;
            let denied = refused.as_ref().is_err_and(F::is_denied);
            assert!(denied, "the user {user} said `{sql}`, and was told {refused:?}");
        }
    }
    let stranger = rights.fixture.pool_as(&format!("{}_relay", rights.fixture.database()), "guessed");
    assert!(stranger.acquire().await.is_err(), "a password that is none (tests/servers) was taken");
}
