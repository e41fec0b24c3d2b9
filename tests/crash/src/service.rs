//! An instance of a service as a process: `crash service KEY=VALUE...`.

use std::io::Read as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use distributed_events::storage::{PoolInbox, PoolSettings};
use distributed_events::{
    EventBus, InboxSettings, LocalBroker, OutboxSettings, RetryPolicy, ServiceBus, shutdown_signal,
};
use tests::fixtures::{File, MySqlDatabase, PgDatabase};

use crate::ground::{Ground, pool};
use crate::{billing, ordering};

/// How long a lease lasts: short, so that the dead are soon replaced.
pub const LEASE: Duration = Duration::from_secs(2);
const HANDLER_TIMEOUT: Duration = Duration::from_millis(400);
const BUSY_TIMEOUT: Duration = Duration::from_millis(600);
const WIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Enough that no line ends dead for the deaths of its handlers.
const ATTEMPTS: u32 = 8;

struct Words(Vec<String>);

impl Words {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn parsed<T: FromStr>(&self, key: &str) -> T {
        self.get(key).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{key}=... is missing"))
    }
}

/// Runs one until it is told to stop, by SIGTERM.
pub fn main(words: Vec<String>) -> ExitCode {
    // The harness has ended, however it did.
    std::thread::spawn(|| {
        let _ended = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    // One thread, so that what stops there stops all of it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let words = Words(words);
    let url: String = words.parsed("url");
    runtime.block_on(async {
        if url.starts_with("sqlite:") {
            run::<File>(&words, &url).await
        } else if url.starts_with("postgres:") {
            run::<PgDatabase>(&words, &url).await
        } else {
            run::<MySqlDatabase>(&words, &url).await
        }
    })
}

async fn run<G: Ground>(words: &Words, url: &str) -> ExitCode {
    let pool = pool::<G>(url);
    let inbox = InboxSettings::default()
        .lease_time(LEASE)
        .poll_interval(Duration::from_millis(50))
        .handler_timeout(HANDLER_TIMEOUT)
        .backoff(Duration::from_millis(20), Duration::from_millis(500))
        .retry(RetryPolicy::default().attempts(ATTEMPTS).initial(Duration::from_millis(10)).jitter(0.5));
    let outbox = OutboxSettings::default()
        .lease_time(LEASE)
        .poll_interval(Duration::from_millis(50))
        .backoff(Duration::from_millis(20), Duration::from_millis(500));
    let builder =
        EventBus::builder(pool.clone()).inbox(inbox).outbox(outbox).busy_timeout(BUSY_TIMEOUT).on_incident(
            |incident| println!("{:?} {}: {}", incident.kind, incident.source, incident.message),
        );
    let builder = match words.get("namespace") {
        Some(namespace) => {
            builder.broker(ServiceBus::from_connection_string(namespace).unwrap().timeout(WIRE_TIMEOUT))
        }
        None => {
            let peer = self::pool::<G>(&words.parsed::<String>("peer"));
            let store = PoolInbox::beside(peer, PoolSettings::new(4, BUSY_TIMEOUT));
            builder.broker(LocalBroker::new().reaching(Arc::new(store)))
        }
    };
    let batch = words.parsed("batch");
    let (bus, publisher) = match words.get("publisher") {
        Some(publisher) => (ordering::handlers::<G>(builder, batch), publisher.parse().ok()),
        None => (billing::handlers::<G>(builder, batch), None),
    };
    let bus = bus.build().unwrap();
    let publishing = async {
        match publisher {
            Some(publisher) => ordering::publish::<G>(&bus, &pool, words.parsed("seed"), publisher).await,
            None => std::future::pending().await,
        }
    };
    let ran = tokio::select! {
        ran = bus.run_until(shutdown_signal()) => ran,
        () = publishing => Ok(()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("ended: {error}");
            ExitCode::FAILURE
        }
    }
}
