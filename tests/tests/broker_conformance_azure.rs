//! The broker conformance suite on a real namespace, given by `DISTRIBUTED_EVENTS_SERVICE_BUS`: a connection string with
//! the claims to send, listen and manage. It makes the topics `events`, `invoices` and `elsewhere` there, and takes all
//! their messages, so it is no place for anybody else's.
#![cfg(real_namespace)]

use std::sync::Arc;
use std::time::Duration;

use distributed_events::broker::Source;
use distributed_events::topology::{Takes, Topology};
use distributed_events::{Broker, ServiceBus};
use tests::broker_conformance::Place;
use tokio::sync::{Mutex, OwnedMutexGuard};

const TOPICS: [&str; 3] = ["events", "invoices", "elsewhere"];
const SUBSCRIPTIONS: [&str; 4] = ["audit", "journal", "billing", "report"];
/// How long a subscription has to be quiet for it to be empty.
const QUIET: Duration = Duration::from_secs(2);

struct Azure {
    /// There is one namespace, and so one test at a time; nextest's processes are told by `.config/nextest.toml`.
    _alone: OwnedMutexGuard<()>,
}

fn service_bus() -> ServiceBus {
    ServiceBus::from_connection_string(&std::env::var("DISTRIBUTED_EVENTS_SERVICE_BUS").unwrap()).unwrap()
}

fn topology() -> Topology {
    let mut topology = Topology::new("Azure", ["default"]);
    for topic in TOPICS {
        for name in SUBSCRIPTIONS {
            let takes = match name {
                "journal" => Takes::Events(vec!["test.noted".to_owned()]),
                "report" => Takes::Events(["test.new-name", "Old.Name"].map(str::to_owned).to_vec()),
                _ => Takes::Everything,
            };
            topology.subscribe(topic, name, takes, true);
        }
    }
    topology
}

/// Takes what an earlier case, or an earlier run, has left.
async fn empty(broker: &ServiceBus, source: Source) {
    let mut receiver = broker.receiver(&source).await.unwrap().unwrap();
    loop {
        let received = receiver.receive(100, QUIET).await.unwrap();
        if received.is_empty() {
            return;
        }
        let tokens: Vec<_> = received.iter().map(|delivery| delivery.token).collect();
        receiver.complete(&tokens).await.unwrap();
    }
}

impl Place for Azure {
    type Broker = ServiceBus;

    const LARGEST: usize = 230 * 1024;

    const SCHEDULES: bool = true;

    async fn fresh() -> Self {
        static ALONE: std::sync::OnceLock<Arc<Mutex<()>>> = std::sync::OnceLock::new();
        let alone = Arc::clone(ALONE.get_or_init(Arc::default)).lock_owned().await;
        let broker = service_bus();
        let report = broker.ensure_topology(&topology()).await.unwrap();
        assert_eq!(report.harmful().count(), 0, "{report}");
        let sources = TOPICS.into_iter().flat_map(|topic| SUBSCRIPTIONS.map(|name| Source::new(topic, name)));
        let sources = sources.flat_map(|source| [source.clone(), source.dead_letters()]);
        futures_util::future::join_all(sources.map(|source| empty(&broker, source))).await;
        Self { _alone: alone }
    }

    fn broker(&self) -> ServiceBus {
        service_bus()
    }
}

tests::broker_conformance!(super::Azure);
