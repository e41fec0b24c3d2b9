//! A service as a process: its namespaces, its start, and its end.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use distributed_events::storage::Storage;
use distributed_events::{
    Broker as _, BusBuilder, EventBus, InboxSettings, OutboxSettings, RetryPolicy, ServiceBus,
};
use serde_json::json;

use crate::Failure;
use crate::arguments::Arguments;
use crate::input::Input;

/// The namespace of everything, and that of what is critical.
pub(crate) struct Namespaces {
    default: ServiceBus,
    critical: ServiceBus,
}

impl Namespaces {
    /// Two emulators on one machine. A namespace is known by its host, and they must not be taken for one.
    pub(crate) fn of(arguments: &Arguments) -> Result<Self, Failure> {
        Ok(Self {
            default: namespace("localhost", arguments.get("default")?)?,
            critical: namespace("127.0.0.1", arguments.get("critical")?)?,
        })
    }
}

/// An emulator by its two doors, `AMQP,HTTP`.
fn namespace(host: &str, doors: &str) -> Result<ServiceBus, Failure> {
    let port = |door: &str| door.rsplit_once(':').map(|(_, port)| port.to_owned());
    let ports = doors.split_once(',').and_then(|(amqp, http)| Some((port(amqp)?, port(http)?)));
    let (amqp, http) = ports.ok_or_else(|| format!("{doors} is not AMQP,HTTP"))?;
    let broker = ServiceBus::from_connection_string(&format!(
        "Endpoint=sb://{host}:{amqp};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;\
         UseDevelopmentEmulator=true;"
    ))?;
    Ok(broker.management_endpoint(&format!("http://{host}:{http}"))?.ensures_topology_at_start())
}

/// One process at a time is this service: one whose launcher was killed may be about to stop still.
pub(crate) fn wait_for_predecessor(directory: &Path, service: &str) -> Result<File, Failure> {
    let path = directory.join(format!("{service}.lock"));
    let file = File::options().create(true).append(true).open(path)?;
    file.lock()?;
    Ok(file)
}

/// Runs the service, and its work beside it, until the input ends.
pub(crate) async fn run<DB: Storage>(
    builder: BusBuilder<DB>,
    namespaces: Namespaces,
    input: &Input,
    work: impl AsyncFnOnce(&EventBus<DB>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Short leases, so that a run after a `kill -9` need not wait long for the dead run's shards.
    let inbox = InboxSettings::default()
        .lease_time(Duration::from_secs(2))
        .handler_timeout(Duration::from_millis(400))
        .retry(RetryPolicy::default().attempts(5).initial(Duration::from_millis(50)));
    let bus = builder
        .broker(namespaces.default.clone())
        .lane("critical", namespaces.critical.clone())
        .inbox(inbox)
        .outbox(OutboxSettings::default().lease_time(Duration::from_secs(2)))
        .shutdown_deadline(Duration::from_secs(10))
        .build()?;
    // The bus does this, too, but then nobody would know when the other service may begin to send: a topic forgets what
    // comes before its subscriptions are there.
    let opened = async { tokio::try_join!(namespaces.default.open(), namespaces.critical.open()) };
    tokio::select! {
        opened = opened => opened?,
        () = input.ended() => return Ok(()), // an emulator that was killed would be waited for
    };
    tell("ready");
    let loops = async { Ok::<_, Failure>(bus.run_until(input.ended()).await?) };
    let work = async {
        tokio::select! {
            worked = async { input.go().await; work(&bus).await } => worked,
            () = input.ended() => Ok(()),
        }
    };
    tokio::try_join!(loops, work)?;
    let stats = bus.stats();
    let told = json!({ "sent": stats.sent, "processed": stats.processed, "retried": stats.retried, "dead": stats.dead });
    tell(&format!("stopped {told}"));
    Ok(())
}

/// Says a line to the launcher; one that is gone needs none.
pub(crate) fn tell(line: &str) {
    let _gone = writeln!(std::io::stdout(), "{line}");
}
