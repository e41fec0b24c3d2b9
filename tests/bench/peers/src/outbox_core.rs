//! outbox-core on outbox-postgres: an outbox relay. Its only settings that bear on speed are the batch, which has no stated
//! limit, and the poll, in whole seconds.

use std::sync::Arc;
use std::time::Duration;

use ::outbox_core::prelude::{
    Event, OutboxConfig, OutboxError, OutboxManagerBuilder, OutboxService, Transport,
};
use outbox_postgres::{PostgresOutbox, PostgresWriter};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use sqlx_for_outboxes as sqlx;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::contestant::{Calls, Contestant, Mode, Task};
use crate::{ORDERS, Order, Result};

/// As its README gives it: it brings no way to install it.
const SCHEMA: &str = "
    CREATE TYPE status AS ENUM ('Pending', 'Processing', 'Sent');
    CREATE TABLE outbox_events (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        idempotency_token text DEFAULT NULL,
        event_type text NOT NULL,
        payload jsonb NOT NULL,
        status status NOT NULL DEFAULT 'Pending',
        created_at timestamptz NOT NULL DEFAULT now(),
        locked_until timestamptz NOT NULL DEFAULT '-infinity');
    CREATE INDEX idx_outbox_processing_queue ON outbox_events (locked_until ASC, status)
        WHERE status IN ('Pending', 'Processing');
    CREATE UNIQUE INDEX idx_outbox_idempotency ON outbox_events (idempotency_token);
    CREATE FUNCTION notify_outbox_event() RETURNS trigger AS
        $$ BEGIN PERFORM pg_notify('outbox_event', 'ping'); RETURN new; END; $$ LANGUAGE plpgsql;
    CREATE TRIGGER outbox_events_notify_trigger AFTER INSERT OR UPDATE ON outbox_events
        FOR EACH ROW EXECUTE FUNCTION notify_outbox_event()";

#[derive(Debug)]
struct Sink {
    calls: Calls,
    takes: Duration,
}

#[async_trait::async_trait]
impl Transport<Order> for Sink {
    async fn publish(&self, event: Event<Order>) -> std::result::Result<(), OutboxError> {
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.calls.note(event.payload.as_value().n);
        Ok(())
    }
}

/// Its manager, and what adds events beside it.
pub(crate) struct Peer {
    pool: PgPool,
    publisher: PgPool,
    config: Arc<OutboxConfig<Order>>,
    sink: Arc<Sink>,
    running: Option<(watch::Sender<bool>, JoinHandle<std::result::Result<(), OutboxError>>)>,
}

impl Contestant for Peer {
    async fn prepare(task: &Task, calls: Calls) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(task.pool).connect(&task.url).await?;
        let publisher = PgPoolOptions::new().max_connections(1).connect(&task.url).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        match task.mode {
            Mode::Drain => {
                let sql = format!(
                    "INSERT INTO outbox_events (event_type, payload) SELECT 'order-placed', payload FROM ({ORDERS}) AS orders"
                );
                sqlx::query(&sql).bind(i64::try_from(task.rows)?).execute(&pool).await?;
            }
            Mode::Processing => return Err("it has no handlers".into()),
            Mode::Latency => {}
        }
        let mut config = OutboxConfig::default();
        if task.settings == "fast" {
            config.batch_size = 1000;
            config.poll_interval_secs = 1;
        }
        let sink = Arc::new(Sink { calls, takes: task.sink() });
        Ok(Self { pool, publisher, config: Arc::new(config), sink, running: None })
    }

    fn left(&self) -> String {
        "SELECT count(*) FROM outbox_events WHERE status <> 'Sent'".to_owned()
    }

    async fn start(&mut self) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let manager = OutboxManagerBuilder::new()
            .storage(Arc::new(PostgresOutbox::new(self.pool.clone(), Arc::clone(&self.config))))
            .publisher(Arc::clone(&self.sink))
            .config(Arc::clone(&self.config))
            .shutdown_rx(stopped)
            .build()?;
        self.running = Some((stop, tokio::spawn(manager.run())));
        Ok(())
    }

    async fn publish(&self, n: usize) -> Result<()> {
        let service = OutboxService::new(Arc::new(PostgresWriter), Arc::clone(&self.config));
        let mut tx = self.publisher.begin().await?;
        service.add_event("order-placed", Order::new(n), None, &mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn stop(self) -> Result<()> {
        if let Some((stop, running)) = self.running {
            stop.send(true)?;
            running.await??;
        }
        Ok(())
    }
}
