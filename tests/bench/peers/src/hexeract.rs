//! hexeract: an outbox whose worker handles events one by one. Fast is what its README shows, a poll of 50 ms, with a batch
//! of 100 and as many workers as the pool leaves room for, since one worker waits for the disk after each event.

use std::sync::Arc;
use std::time::Duration;

use ::hexeract::core::HandlerContext;
use ::hexeract::outbox::{Event, Handler, OutboxError, OutboxPublisher};
use ::hexeract::outbox_sql::postgres::{PgOutboxPublisher, PgOutboxWorkerBuilder, ensure_schema};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use sqlx_for_outboxes as sqlx;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::contestant::{Calls, Contestant, Mode, Task};
use crate::{INSERT, ORDERS, Order, Result};

const TABLE: &str = "orders_outbox";

impl Event for Order {
    const EVENT_TYPE: &'static str = "order-placed";
}

#[derive(Debug)]
struct Handling {
    calls: Calls,
    inserts: Option<PgPool>,
    sink: Duration,
}

impl Handler<Order> for Handling {
    type Error = OutboxError;

    async fn handle(&self, order: Order, _: &HandlerContext) -> std::result::Result<(), OutboxError> {
        if let Some(pool) = &self.inserts {
            let customer = i64::try_from(order.n).unwrap_or(-1);
            let insert = sqlx::query(INSERT).bind(customer).bind(order.note).execute(pool).await;
            insert.map_err(|error| OutboxError::Database(Box::new(error)))?;
        }
        if !self.sink.is_zero() {
            tokio::time::sleep(self.sink).await;
        }
        self.calls.note(order.n);
        Ok(())
    }
}

/// Its workers, and what adds events beside them.
pub(crate) struct Peer {
    pool: PgPool,
    publisher: PgPool,
    handling: Arc<Handling>,
    fast: bool,
    workers: JoinSet<std::result::Result<(), OutboxError>>,
    stop: CancellationToken,
}

impl Contestant for Peer {
    async fn prepare(task: &Task, calls: Calls) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(task.pool).connect(&task.url).await?;
        let publisher = PgPoolOptions::new().max_connections(1).connect(&task.url).await?;
        ensure_schema(&pool, TABLE).await?;
        if task.mode != Mode::Latency {
            let sql = format!(
                "INSERT INTO {TABLE} (event_id, event_type, payload) \
                 SELECT gen_random_uuid(), '{}', payload FROM ({ORDERS}) AS orders",
                Order::EVENT_TYPE
            );
            sqlx::query(&sql).bind(i64::try_from(task.rows)?).execute(&pool).await?;
        }
        let inserts = (task.mode == Mode::Processing).then(|| pool.clone());
        let handling = Arc::new(Handling { calls, inserts, sink: task.sink() });
        let fast = task.settings == "fast";
        let (workers, stop) = (JoinSet::new(), CancellationToken::new());
        Ok(Self { pool, publisher, handling, fast, workers, stop })
    }

    fn left(&self) -> String {
        format!("SELECT count(*) FROM {TABLE} WHERE delivered_at IS NULL")
    }

    async fn start(&mut self) -> Result<()> {
        for _ in 0..if self.fast { self.pool.options().get_max_connections() } else { 1 } {
            let builder = PgOutboxWorkerBuilder::new(self.pool.clone())
                .table_name(TABLE)
                .shared_handler::<Order, _>(Arc::clone(&self.handling));
            let builder = if self.fast {
                builder.poll_interval(Duration::from_millis(50)).batch_size(100)
            } else {
                builder
            };
            self.workers.spawn(builder.build()?.run(self.stop.clone()));
        }
        Ok(())
    }

    async fn publish(&self, n: usize) -> Result<()> {
        let publisher = PgOutboxPublisher::new(self.publisher.clone(), TABLE)?;
        let mut tx = self.publisher.begin().await?;
        publisher.publish_in_tx(&mut tx, &Order::new(n)).await?;
        Ok(tx.commit().await?)
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended??;
        }
        Ok(())
    }
}
