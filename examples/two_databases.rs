//! Two services on databases of different kinds: one publishes from SQLite, the other handles on PostgreSQL.
//!
//!     cargo run --example two_databases --features postgres -- postgres://user@host/database

use distributed_events::{DistributedEvent, EventBus, HandlerError, LocalBroker, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, SqlitePool, Transaction};
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "till.sold", topic = "sales", session = till)]
struct Sold {
    till: String,
    cents: i64,
}

/// Sells at the front till, all of it or nothing.
async fn sell(pool: &SqlitePool, prices: &[i64]) -> Result<(), Failure> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    for &cents in prices {
        Sold { till: "front".to_owned(), cents }.publish(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

// The type of the transaction says on which database a handler works.
#[event_handler(subscription = "bookkeeping")]
async fn book(sold: Sold, tx: &mut Transaction<'_, Postgres>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO example_sales (till, cents) VALUES ($1, $2)")
        .bind(sold.till)
        .bind(sold.cents)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("usage: two_databases postgres://user@host/database")?;
    let till_db = SqlitePool::connect("sqlite::memory:").await?;
    let book_db = PgPool::connect(&url).await?;
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS example_sales; CREATE TABLE example_sales (till TEXT NOT NULL, cents BIGINT NOT NULL)",
    )
    .execute(&book_db)
    .await?;
    EventBus::migrate(&till_db).await?;
    EventBus::migrate(&book_db).await?;

    // One broker, two buses: it delivers from the one database into the other.
    let broker = LocalBroker::new();
    let till = EventBus::builder(till_db.clone()).broker(broker.clone()).build()?;
    let books = EventBus::builder(book_db.clone()).broker(broker).handler::<book>().build()?;

    sell(&till_db, &[250, 1000, 75]).await?;

    let (stop, stopped) = watch::channel(false);
    let until_booked = || {
        let mut stopped = stopped.clone();
        async move {
            let _gone = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let watching = async {
        loop {
            let sales: Vec<i64> =
                sqlx::query_scalar("SELECT cents FROM example_sales").fetch_all(&book_db).await?;
            if sales.len() == 3 {
                println!("booked on PostgreSQL: {sales:?}");
                stop.send_replace(true);
                return Ok::<_, sqlx::Error>(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (till, books, watched) =
        tokio::join!(till.run_until(until_booked()), books.run_until(until_booked()), watching);
    till?;
    books?;
    Ok(watched?)
}

/// The till's. A handler on PostgreSQL has to be tested there: the test bus is on SQLite.
#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn what_is_sold_is_published_in_its_order() {
        TestBus::run(
            |bus| bus.publishes::<Sold>(),
            async |bus| {
                sell(bus.pool(), &[250, 1000, 75]).await?;
                bus.settled().await?;
                bus.assert_published::<Sold>(|sold| sold.till == "front" && sold.cents == 1000).await?;
                let cents: Vec<_> = bus.published::<Sold>()?.into_iter().map(|sold| sold.cents).collect();
                assert_eq!(cents, [250, 1000, 75]);
                Ok(())
            },
        );
    }
}
