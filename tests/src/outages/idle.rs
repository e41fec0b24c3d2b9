//! What an idle service costs its server.

use std::time::{Duration, Instant};

use distributed_events::{EventBus, HandlerSettings, LocalBroker};

use super::{Counted, OnServer, Shop, beside};
use crate::eventually::eventually;

/// How long is measured: time enough for every loop to come round several times.
const WINDOW: Duration = Duration::from_secs(10);

/// Far more than one instance with one subscription asks for, and far less than a loop that never rests.
const MOST: f64 = 100.0;

/// With the default settings. `--no-capture` shows the number that the README has.
pub async fn an_idle_bus_asks_little<F: OnServer>() {
    let shop = Shop::<F>::new().await;
    let bus = EventBus::builder(shop.fixture.pool().clone())
        .broker(LocalBroker::new())
        .on(HandlerSettings::new("counting"), |_: Counted, _tx, _context| Box::pin(async { Ok(()) }))
        .build()
        .unwrap();
    beside(&bus, async {
        shop.place(&Counted { session: "a".to_owned(), n: 0 }).await;
        let done = "SELECT count(*) FROM inbox WHERE status = 'processed'";
        eventually("it works", || shop.numbers(done), |count| *count == [1]).await;
        // What follows a wake-up is over before the window begins.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (before, began) = (shop.fixture.statements().await, Instant::now());
        tokio::time::sleep(WINDOW).await;
        let asked = shop.fixture.statements().await - before;
        let rate = asked as f64 / began.elapsed().as_secs_f64();
        println!("{}: an idle bus asks {rate:.1} times a second", F::KIND);
        assert!(rate < MOST, "an idle bus asks {rate:.1} times a second");
    })
    .await;
}
