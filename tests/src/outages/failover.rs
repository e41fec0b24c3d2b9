//! The server comes back without its last transactions, as a replica that had not heard of them (SEMANTICS.md, rule 32).

use std::time::Duration;

use distributed_events::{DistributedEvent, EventBus, LocalBroker, admin};

use super::{Counted, OnServer, Shop, beside};
use crate::conformance::Fixture as _;
use crate::eventually::eventually;
use crate::fixtures::File;

/// What was committed and is gone is gone with its business rows, and the operator has to place it again; what was not is
/// not lost or doubled by it, although the new rows carry sequence numbers that the running bus has seen before.
pub async fn after_a_failover_without_the_last_transactions_the_rest_goes_on<F: OnServer>() {
    let shop = Shop::<F>::new().await;
    let bus = shop.builder().build().unwrap();
    let place = |range: std::ops::Range<i64>| async {
        for n in range {
            shop.place(&Counted { session: "a".to_owned(), n }).await;
        }
    };
    beside(&bus, async {
        place(0..10).await;
        shop.assert_effects(&["a"], 10).await;
        shop.server.stop();
        shop.server.keep();
        shop.server.come_back();
        // The bus sees these, sends and handles them, and goes far beyond in both tables.
        place(10..40).await;
        shop.assert_effects(&["a"], 40).await;
        shop.server.kill();
        shop.server.fail_over();
        shop.server.come_back();
        let count = || shop.numbers("SELECT count(*) FROM orders");
        eventually("it has forgotten", count, |count| *count == [10]).await;
        // Placed again, under sequence numbers that were used before.
        place(10..20).await;
        shop.assert_effects(&["a"], 20).await;
    })
    .await;
}

/// The subscriber's server forgets what it had received and done; its publisher sends it again. What the subscriber still
/// has is not done twice.
pub async fn what_a_subscriber_has_lost_is_sent_again<F: OnServer>() {
    let shop = Shop::<F>::new().await;
    let publisher = File::fresh().await;
    let broker = LocalBroker::new();
    let subscribing = shop.builder_over(broker.clone()).build().unwrap();
    let publishing = EventBus::builder(publisher.pool().clone()).broker(broker).build().unwrap();
    let publish = |range: std::ops::Range<i64>| async {
        for n in range {
            let mut tx = publisher.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
            Counted { session: "a".to_owned(), n }.publish(&mut tx).await.unwrap();
            publishing.commit(tx).await.unwrap();
        }
    };
    beside(
        &publishing,
        beside(&subscribing, async {
            publish(0..10).await;
            shop.assert_effects(&["a"], 10).await;
            shop.server.stop();
            shop.server.keep();
            shop.server.come_back();
            publish(10..30).await;
            shop.assert_effects(&["a"], 30).await;
            shop.server.kill();
            shop.server.fail_over();
            shop.server.come_back();
            let count = || shop.numbers("SELECT count(*) FROM effects");
            eventually("it has forgotten", count, |count| *count == [10]).await;
            assert_eq!(admin::resend(publisher.pool(), Duration::from_secs(3_600), None).await.unwrap(), 30);
            publish(30..35).await;
            let all = || shop.numbers("SELECT n FROM effects ORDER BY n");
            // Sent again, they step out of order: the newest may come first.
            eventually("each once", all, |all| *all == (0..35).collect::<Vec<_>>()).await;
            let open = "SELECT count(*) FROM inbox WHERE status <> 'processed'";
            assert_eq!(shop.numbers(open).await, [0]);
        }),
    )
    .await;
}
