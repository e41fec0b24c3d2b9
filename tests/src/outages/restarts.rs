//! The server goes away and comes back with everything that it had confirmed.

use distributed_events::EventBus;

use super::{Counted, OnServer, Shop, beside};

/// Orderly or not, in the middle of publishing, relaying and handling.
pub async fn a_server_that_restarts_loses_and_doubles_nothing<F: OnServer>() {
    let shop = Shop::<F>::new().await;
    let bus = shop.builder().build().unwrap();
    let sessions = ["a", "b", "c"];
    beside(&bus, async {
        let publishing = async {
            for n in 0..100 {
                for session in sessions {
                    shop.place(&Counted { session: session.to_owned(), n }).await;
                }
            }
        };
        let outages = async {
            for round in 0..4_i64 {
                let far_enough = |count: &Vec<i64>| count[0] > 30 * (round + 1);
                let count = || shop.numbers("SELECT count(*) FROM effects");
                crate::eventually::eventually("it goes on", count, far_enough).await;
                if round % 2 == 0 {
                    shop.server.kill()
                } else {
                    shop.server.stop()
                }
                shop.server.come_back();
            }
        };
        tokio::join!(publishing, outages);
        shop.assert_effects(&sessions, 100).await;
    })
    .await;
    assert_eq!(shop.numbers("SELECT count(*) FROM orders").await, [300]);
}

/// A service is often started before its database: migrating says that nothing is there, a bus waits for it.
pub async fn a_server_that_is_away_at_the_start_is_waited_for<F: OnServer>() {
    let shop = Shop::<F>::new().await;
    shop.server.stop();
    let error = EventBus::<F::DB>::migrate(shop.fixture.pool()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("refused"), "{error}");
    let bus = shop.builder().build().unwrap();
    beside(&bus, async {
        tokio::task::yield_now().await;
        shop.server.come_back();
        shop.place(&Counted { session: "a".to_owned(), n: 0 }).await;
        shop.assert_effects(&["a"], 1).await;
    })
    .await;
}
