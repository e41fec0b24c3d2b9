//! Two services: ordering places an order a second, and billing charges it.

use std::error::Error;
use std::time::Duration;

use distributed_events::{
    Broker, DistributedEvent, EventBus, EventContext, HandlerError, ServiceBus, event_handler,
    shutdown_signal,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tracing::Instrument;

/// Whatever goes wrong.
pub type Failure = Box<dyn Error + Send + Sync>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
struct OrderPlaced {
    order_id: i64,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.card-charged", topic = "charges")]
struct CardCharged {
    order_id: i64,
}

#[event_handler(subscription = "billing")]
async fn charge_card(
    order: OrderPlaced,
    tx: &mut Transaction<'_, Sqlite>,
    context: &EventContext,
) -> Result<(), HandlerError> {
    // A span of the application's own: it stands inside the one of the handler.
    call_the_bank(order.order_id, context.attempt()).instrument(tracing::info_span!("call the bank")).await?;
    CardCharged { order_id: order.order_id }.publish(tx).await?;
    Ok(())
}

async fn call_the_bank(order_id: i64, attempt: u32) -> Result<(), HandlerError> {
    if order_id % 3 == 0 && attempt == 1 { Err("the bank does not answer".into()) } else { Ok(()) }
}

#[event_handler(subscription = "ordering")]
async fn mark_paid(charge: CardCharged) -> Result<(), HandlerError> {
    println!("order {} is paid", charge.order_id);
    Ok(())
}

async fn create_tables(pool: &SqlitePool) -> Result<(), Failure> {
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY)").execute(pool).await?;
    Ok(())
}

async fn place_order(pool: &SqlitePool) -> Result<(), Failure> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let insert = sqlx::query_scalar("INSERT INTO orders DEFAULT VALUES RETURNING order_id");
    let order_id = insert.fetch_one(&mut *tx).await?;
    OrderPlaced { order_id }.publish(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

async fn place_orders(pool: &SqlitePool) -> Result<(), Failure> {
    loop {
        place_order(pool).instrument(tracing::info_span!("place an order")).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Which of the two a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Places orders, and hears that they are paid.
    Ordering,
    /// Charges them.
    Billing,
}

impl Service {
    /// The one that the command line names.
    ///
    /// # Errors
    /// When it names none.
    pub fn of_arguments() -> Result<Self, Failure> {
        match std::env::args().nth(1).as_deref() {
            Some("ordering") => Ok(Self::Ordering),
            Some("billing") => Ok(Self::Billing),
            _ => Err("say which service this is to be: ordering or billing".into()),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordering => "ordering",
            Self::Billing => "billing",
        }
    }

    /// Runs it until Ctrl-C or SIGTERM, on a database file in this directory and the namespace that the environment
    /// variable SERVICE_BUS names.
    ///
    /// # Errors
    /// When the database or the namespace can't be had.
    pub async fn run(self) -> Result<(), Failure> {
        let options = SqliteConnectOptions::new()
            .filename(format!("{}.db", self.name()))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePool::connect_with(options).await?;
        create_tables(&pool).await?;
        EventBus::migrate(&pool).await?;

        let mut broker = ServiceBus::from_connection_string(&std::env::var("SERVICE_BUS")?)?;
        if let Ok(url) = std::env::var("SERVICE_BUS_MANAGEMENT") {
            broker = broker.management_endpoint(&url)?;
        }
        broker = broker.ensures_topology_at_start();
        let builder = EventBus::builder(pool.clone()).broker(broker.clone());
        let bus = match self {
            Self::Ordering => builder.publishes::<OrderPlaced>().handler::<mark_paid>().build()?,
            Self::Billing => builder.publishes::<CardCharged>().handler::<charge_card>().build()?,
        };
        broker.open().await?;
        println!("{} is ready", self.name());
        let orders = async {
            if self == Self::Ordering { place_orders(&pool).await } else { std::future::pending().await }
        };
        tokio::select! {
            ran = bus.run_until(shutdown_signal()) => Ok(ran?),
            failed = orders => failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn a_bank_that_does_not_answer_is_asked_again() {
        TestBus::run(
            |bus| bus,
            async |bus| {
                let third = OrderPlaced { order_id: 3 };
                bus.handle::<charge_card>(&third).await?.assert_retried("the bank does not answer");
                bus.assert_not_published::<CardCharged>().await?;
                bus.handle::<charge_card>(&third).attempt(2).await?.assert_processed();
                bus.assert_published::<CardCharged>(|charged| charged.order_id == 3).await?;
                Ok(())
            },
        );
    }

    #[test]
    fn an_order_is_placed_with_its_event_and_can_be_paid() {
        TestBus::run(
            |bus| bus.handler::<mark_paid>(),
            async |bus| {
                create_tables(bus.pool()).await?;
                place_order(bus.pool()).await?;
                bus.receive(&CardCharged { order_id: 1 })?;
                bus.settled().await?;
                bus.assert_published::<OrderPlaced>(|placed| placed.order_id == 1).await?;
                bus.assert_none_dead().await?;
                Ok(())
            },
        );
    }
}
