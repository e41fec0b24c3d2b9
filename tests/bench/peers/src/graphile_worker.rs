//! graphile_worker: a job queue. Its fast settings are those of its `benches/perf_test.rs`, but for the size of the pool.

use std::sync::Arc;
use std::time::Duration;

use ::graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, Worker, WorkerContext,
    WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;

use crate::contestant::{Calls, Contestant, Mode, Task};
use crate::{INSERT, Order, Result};

const SCHEMA: &str = "graphile_worker";

#[derive(Debug, Deserialize, Serialize)]
struct Job(Order);

#[derive(Clone, Debug)]
struct Handling {
    calls: Calls,
    inserts: bool,
    sink: Duration,
}

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "order-placed";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let handling = context.get_ext::<Handling>().ok_or("the extension is missing")?;
        let Order { n, note } = self.0;
        if handling.inserts {
            let customer = i64::try_from(n).map_err(|error| error.to_string())?;
            let insert = sqlx::query(INSERT).bind(customer).bind(note);
            insert.execute(context.pg_pool()).await.map_err(|error| error.to_string())?;
        }
        if !handling.sink.is_zero() {
            tokio::time::sleep(handling.sink).await;
        }
        handling.calls.note(n);
        Ok::<(), String>(())
    }
}

/// Its worker, and what adds jobs beside it.
pub(crate) struct Peer {
    worker: Arc<Worker>,
    utils: WorkerUtils,
    running: Option<JoinHandle<std::result::Result<(), ::graphile_worker::runner::WorkerRuntimeError>>>,
}

impl Contestant for Peer {
    async fn prepare(task: &Task, calls: Calls) -> Result<Self> {
        let pool = connect(task, task.pool).await?;
        let handling = Handling { calls, inserts: task.mode == Mode::Processing, sink: task.sink() };
        let options = WorkerOptions::default()
            .pg_pool(pool)
            .schema(SCHEMA)
            .listen_os_shutdown_signals(false)
            .add_extension(handling)
            .define_job::<Job>();
        let options = if task.settings == "fast" {
            options
                .concurrency(500)
                .poll_interval(Duration::from_millis(5))
                .complete_job_batch_delay(Duration::from_millis(5))
                .local_queue(LocalQueueConfig::default().with_size(5000))
        } else {
            options
        };
        let worker = options.init().await?;
        let utils = WorkerUtils::new(connect(task, 1).await?, SCHEMA);
        if task.mode != Mode::Latency {
            let numbers: Vec<_> = (0..task.rows).collect();
            for numbers in numbers.chunks(1000) {
                let jobs: Result<Vec<_>> = numbers.iter().map(|n| job(*n)).collect();
                utils.add_raw_jobs(&jobs?).await?;
            }
        }
        Ok(Self { worker: Arc::new(worker), utils, running: None })
    }

    fn left(&self) -> String {
        format!("SELECT count(*) FROM {SCHEMA}._private_jobs")
    }

    async fn start(&mut self) -> Result<()> {
        let worker = Arc::clone(&self.worker);
        self.running = Some(tokio::spawn(async move { worker.run().await }));
        Ok(())
    }

    async fn publish(&self, n: usize) -> Result<()> {
        self.utils.add_job(Job(Order::new(n)), JobSpec::default()).await?;
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        self.worker.request_shutdown();
        if let Some(running) = self.running {
            running.await??;
        }
        Ok(())
    }
}

fn job(n: usize) -> Result<RawJobSpec> {
    let payload = serde_json::to_value(Job(Order::new(n)))?;
    Ok(RawJobSpec { identifier: Job::IDENTIFIER.to_owned(), payload, spec: JobSpec::default() })
}

async fn connect(task: &Task, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(&task.url).await?)
}
