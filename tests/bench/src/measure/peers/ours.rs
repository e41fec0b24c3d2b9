//! Our own subject, as a contestant like all the others: a process of its own, the same protocol, the same clocks.

use std::sync::Arc;
use std::time::Duration;

use distributed_events::broker::{Batch, BatchLimits, ReceiveError, Receiver, SendError, Service, Source};
use distributed_events::storage::{PoolSettings, Storage};
use distributed_events::{
    Broker, DistributedEvent, EventBus, HandlerSettings, InboxSettings, OutboxRelay, OutboxSettings,
    Shutdown, ShutdownHandle,
};
use futures_util::future::BoxFuture;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres};
use tokio::task::JoinHandle;

use super::super::processing::{SUBSCRIPTION, fill_inbox};
use super::super::publish;
use super::contestant::{Calls, Contestant, Mode, Task};
use crate::Result;
use crate::event::OrderPlaced;
use crate::floors::{INSERT, NOTE};

/// Sent rows stay, as is the library's default.
pub(super) const KEEP: &str = "keep";
/// Sent rows are deleted.
pub(super) const DELETE: &str = "delete";
/// Each row is processed in a transaction of its own.
pub(super) const ONE: &str = "one";
/// Fifty rows are processed in a transaction.
pub(super) const FIFTY: &str = "fifty";

/// A pool of ten has room for them and for what reads beside them.
const WORKERS: usize = 8;

/// A broker that reads what it is sent, as the peers do for their handlers, and takes so long for each batch.
#[derive(Debug)]
struct Sink {
    calls: Calls,
    takes: Duration,
}

impl Broker for Sink {
    fn identity(&self) -> String {
        "sink".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(4 << 20, 10_000)
    }

    fn attach(&self, _: Service) {}

    fn send<'a>(&'a self, batch: Batch<'a>) -> BoxFuture<'a, std::result::Result<(), SendError>> {
        Box::pin(async move {
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            for event in batch.events {
                let order: OrderPlaced = serde_json::from_str(&event.data)
                    .map_err(|error| SendError::Event { id: event.id, reason: error.to_string() })?;
                self.calls.note(usize::try_from(order.n).unwrap_or(usize::MAX));
            }
            Ok(())
        })
    }

    fn receiver<'a>(
        &'a self,
        _: &'a Source,
    ) -> BoxFuture<'a, std::result::Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// The relay alone, or a whole bus.
enum Worker {
    Relay(Box<OutboxRelay<Postgres>>),
    Bus(EventBus<Postgres>),
}

/// What works, and what publishes beside it.
pub(crate) struct Ours {
    worker: Option<Worker>,
    bus: Option<EventBus<Postgres>>,
    left: &'static str,
    publisher: PgPool,
    running: Option<(ShutdownHandle, JoinHandle<Result<()>>)>,
}

impl Contestant for Ours {
    async fn prepare(task: &Task, calls: Calls) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(task.pool).connect(&task.url).await?;
        let publisher = PgPoolOptions::new().max_connections(1).connect(&task.url).await?;
        let rows = i64::try_from(task.rows)?;
        let sink = Sink { calls: calls.clone(), takes: task.sink() };
        let (worker, left) = match task.mode {
            Mode::Drain => {
                publish(&pool, 0, rows).await?;
                let settings = PoolSettings::new(task.pool, Duration::from_secs(5));
                let outbox = OutboxSettings::default();
                let outbox = if task.settings == DELETE { outbox.delete_sent() } else { outbox };
                let relay = OutboxRelay::new(Postgres::open(&pool, &settings).await?, Arc::new(sink));
                (Worker::Relay(Box::new(relay.settings(outbox))), OUTBOX)
            }
            Mode::Processing => {
                fill_inbox(&pool, rows).await?;
                (Worker::Bus(processor(pool, sink, calls, task)?), INBOX)
            }
            Mode::Latency => {
                let bus = EventBus::builder(pool).broker(sink).publishes::<OrderPlaced>().build()?;
                (Worker::Bus(bus), OUTBOX)
            }
        };
        let bus = if let Worker::Bus(bus) = &worker { Some(bus.clone()) } else { None };
        Ok(Self { worker: Some(worker), bus, left, publisher, running: None })
    }

    fn left(&self) -> String {
        self.left.to_owned()
    }

    async fn start(&mut self) -> Result<()> {
        let (handle, mut stop) = Shutdown::new();
        let running = match self.worker.take().ok_or("it was started before")? {
            Worker::Relay(relay) => tokio::spawn(async move {
                relay.run(stop).await;
                Ok(())
            }),
            Worker::Bus(bus) => {
                tokio::spawn(async move { Ok(bus.run_until(async move { stop.stopped().await }).await?) })
            }
        };
        self.running = Some((handle, running));
        Ok(())
    }

    async fn publish(&self, n: usize) -> Result<()> {
        let mut tx = self.publisher.begin().await?;
        OrderPlaced::new(i64::try_from(n)?).publish(&mut tx).await?;
        let bus = self.bus.as_ref().ok_or("a relay alone has nobody who commits")?;
        Ok(bus.commit(tx).await?)
    }

    async fn stop(self) -> Result<()> {
        if let Some((handle, running)) = self.running {
            handle.stop();
            running.await??;
        }
        Ok(())
    }
}

const OUTBOX: &str = "SELECT count(*) FROM outbox WHERE status = 'pending'";
const INBOX: &str = "SELECT count(*) FROM inbox WHERE status = 'pending'";

fn processor(pool: PgPool, sink: Sink, calls: Calls, task: &Task) -> Result<EventBus<Postgres>> {
    let handling = HandlerSettings::new(SUBSCRIPTION).batch(if task.settings == FIFTY { 50 } else { 1 });
    let bus = EventBus::builder(pool)
        .broker(sink)
        .inbox(InboxSettings::default().workers(WORKERS))
        .on(handling, move |event: OrderPlaced, tx, _context| {
            let calls = calls.clone();
            Box::pin(async move {
                sqlx::query(INSERT).bind(event.n).bind(NOTE).execute(&mut **tx).await?;
                calls.note(usize::try_from(event.n).unwrap_or(usize::MAX));
                Ok(())
            })
        })
        .build()?;
    Ok(bus)
}
