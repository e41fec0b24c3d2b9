//! What a service has to live through with its database server, and what it costs it, as functions over an [`OnServer`]
//! fixture.

use std::future::Future;
use std::time::Duration;

use distributed_events::storage::Storage;
use distributed_events::{
    BusBuilder, DistributedEvent, EventBus, EventId, HandlerSettings, InboxSettings, LocalBroker,
    OutboxSettings, PublishError, PublishOptions, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::conformance::Fixture;
use crate::eventually::eventually;
use crate::private_server::PrivateServer;

pub mod failover;
pub mod idle;
pub mod restarts;

/// A database on a server that the test has for itself.
pub trait OnServer: Fixture {
    /// What `tests/servers` calls the server.
    const KIND: &'static str;

    /// A new database without tables on the server with this URL.
    fn on(url: &str) -> impl Future<Output = Self> + Send;

    /// How many statements the server has run so far, as far as it counts them.
    fn statements(&self) -> impl Future<Output = i64> + Send;
}

/// The `n`-th event of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// Its session.
    pub session: String,
    /// Its place there.
    pub n: i64,
}

impl DistributedEvent for Counted {
    const NAME: &'static str = "outages.counted";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some(self.session.clone())
    }
}

/// A service on a private server: it publishes to itself, and counts what it has handled in business rows.
#[derive(Debug)]
pub struct Shop<F: OnServer> {
    /// The database, which goes before its server.
    pub fixture: F,
    /// The server.
    pub server: PrivateServer,
}

impl<F: OnServer> Shop<F> {
    /// With tables: the library's, `orders` for the publisher and `effects` for the handler.
    pub async fn new() -> Self {
        let server = PrivateServer::start(F::KIND);
        let fixture = F::on(server.url()).await;
        F::DB::migrate(fixture.pool()).await.unwrap();
        // No keys, on purpose: what is done twice must show.
        fixture.execute("CREATE TABLE orders (n BIGINT NOT NULL)").await;
        fixture.execute("CREATE TABLE effects (seq BIGINT NOT NULL, session_id VARCHAR(20) NOT NULL, n BIGINT NOT NULL)").await;
        Self { fixture, server }
    }

    /// A bus with short times and the handler, and a broker of its own.
    pub fn builder(&self) -> BusBuilder<F::DB> {
        self.builder_over(LocalBroker::new())
    }

    /// The same with a broker that others know.
    pub fn builder_over(&self, broker: LocalBroker) -> BusBuilder<F::DB> {
        let lease = Duration::from_secs(3);
        EventBus::builder(self.fixture.pool().clone())
            .broker(broker)
            .inbox(
                InboxSettings::default()
                    .lease_time(lease)
                    .poll_interval(Duration::from_millis(50))
                    .handler_timeout(Duration::from_millis(500))
                    .retry(RetryPolicy::default().attempts(3).initial(Duration::from_millis(10))),
            )
            .outbox(
                OutboxSettings::default()
                    .lease_time(lease)
                    .poll_interval(Duration::from_millis(50))
                    .backoff(Duration::from_millis(10), Duration::from_millis(200)),
            )
            // Read only when a test has failed.
            .on_incident(|incident| println!("{:?} {}: {}", incident.kind, incident.source, incident.message))
            .on(HandlerSettings::new("counting"), |event: Counted, tx, _context| {
                Box::pin(async move {
                    let sql = format!(
                        "INSERT INTO effects (seq, session_id, n) SELECT coalesce(max(seq), 0) + 1, '{}', {} FROM effects",
                        event.session, event.n
                    );
                    Ok(F::run(&mut **tx, &sql).await?)
                })
            })
    }

    /// Places an order and publishes its event, however often the server goes away: the id makes a repetition known
    /// (SEMANTICS.md, rule 16).
    pub async fn place(&self, event: &Counted) {
        let id = EventId::new();
        eventually_ok(|| self.try_place(event, id)).await;
    }

    async fn try_place(&self, event: &Counted, id: EventId) -> Result<(), String> {
        let mut tx = self.fixture.pool().begin_with(F::DB::BEGIN).await.map_err(|error| error.to_string())?;
        match event.publish_with(&mut tx, PublishOptions::new().id(id)).await {
            Ok(_) => {}
            // The commit whose outcome was unknown had gone through.
            Err(PublishError::Duplicate { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        F::run(&mut *tx, &format!("INSERT INTO orders (n) VALUES ({})", event.n))
            .await
            .map_err(|error| error.to_string())?;
        tx.commit().await.map_err(|error| error.to_string())
    }

    /// One column of a table, on whichever connection has outlived the server's last end.
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        eventually_ok(|| async {
            let mut conn = self.fixture.pool().acquire().await.map_err(|error| error.to_string())?;
            F::run(&mut conn, "SELECT 1").await.map_err(|error| error.to_string())?;
            Ok(F::numbers(&mut conn, sql).await)
        })
        .await
    }

    /// Waits for so many effects, and sees that each was had once and in its session's order.
    pub async fn assert_effects(&self, sessions: &[&str], each: i64) {
        let expected = i64::try_from(sessions.len()).unwrap() * each;
        let count = || self.numbers("SELECT count(*) FROM effects");
        eventually("all effects", count, |count| count[0] >= expected).await;
        for session in sessions {
            let sql = format!("SELECT n FROM effects WHERE session_id = '{session}' ORDER BY seq");
            assert_eq!(self.numbers(&sql).await, (0..each).collect::<Vec<_>>(), "session {session}");
        }
        let open = "SELECT count(*) FROM inbox WHERE status <> 'processed'";
        eventually("nothing is open or dead", || self.numbers(open), |count| count[0] == 0).await;
    }
}

/// Tries until it works.
pub async fn eventually_ok<T, W: Future<Output = Result<T, String>>>(mut attempt: impl FnMut() -> W) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(tokio::time::Instant::now() < end, "still: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a bus beside a future, and stops it when that has ended.
pub async fn beside<DB: Storage, T>(bus: &EventBus<DB>, work: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let run = bus.run_until(async {
        let _gone = stopped.await;
    });
    let (ran, done) = tokio::join!(run, async {
        let done = work.await;
        drop(stop);
        done
    });
    ran.unwrap();
    done
}

/// Stamps out one test for each case on a fixture.
#[macro_export]
macro_rules! outages {
    ($fixture:ty) => {
        $crate::outages! { @cases ($fixture)
            restarts: a_server_that_restarts_loses_and_doubles_nothing,
                a_server_that_is_away_at_the_start_is_waited_for;
            idle: an_idle_bus_asks_little;
            failover: after_a_failover_without_the_last_transactions_the_rest_goes_on,
                what_a_subscriber_has_lost_is_sent_again;
        }
    };
    (@cases ($fixture:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::outages::$module::$case::<$fixture>().await;
            })+
        })+
    };
}
