//! What a bus says of its health while its database hangs, or is gone.

use std::time::{Duration, Instant};

use distributed_events::health::{Health, Reason};
use distributed_events::{EventBus, HealthThresholds, LocalBroker};
use sqlx::postgres::PgPoolOptions;
use tests::conformance::Fixture;
use tests::eventually::eventually;
use tests::fixtures::PgDatabase;
use tests::outages::beside;
use tests::proxy::Proxy;

#[tokio::test]
async fn a_database_that_hangs_is_told_of_within_the_deadline_and_seen_to_be_back() {
    let database = PgDatabase::<true>::fresh().await;
    let server = PgDatabase::<true>::server();
    let proxy = Proxy::before(format!("{}:{}", server.get_host(), server.get_port()).parse().unwrap()).await;
    let options = database.options().host("127.0.0.1").port(proxy.address().port());
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let deadline = Duration::from_millis(500);
    let bus = EventBus::builder(pool)
        .broker(LocalBroker::new())
        .health_thresholds(HealthThresholds::default().deadline(deadline))
        .shutdown_deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    beside(&bus, async {
        eventually("it is ready", || bus.health(), |health: &Health| health.ready).await;
        proxy.freeze();
        let asked = Instant::now();
        let health = bus.health().await;
        assert!(asked.elapsed() < deadline * 4, "{:?}", asked.elapsed());
        assert!(health.live && !health.ready, "{health:?}");
        assert_eq!(health.degraded, [Reason::DatabaseSilent { within: deadline }]);
        assert!(health.degraded[0].to_string().contains("does not answer within 0.5 s"));

        proxy.thaw();
        proxy.cut();
        eventually("it is ready again", || bus.health(), |health: &Health| health.ready).await;
    })
    .await;
}
