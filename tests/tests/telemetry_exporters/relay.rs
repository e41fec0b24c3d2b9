//! The command line's relay, which exports by OTLP what it does for an application that knows nothing of this library.

use std::process::{Child, Command, Stdio};

use distributed_events::telemetry::names::{PUBLISH_LAG, SENT};
use sqlx::{AssertSqlSafe, SqlitePool};
use tempfile::TempDir;
use tests::emulator::Emulator;
use tests::eventually::eventually;
use tests::programs::program;

use crate::collector::Collector;
use crate::otlp::{spans, units};

/// A span of the application's, of which it tells with the event.
const PUBLISHED: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

const CONFIG: &str = r#"
[outbox]
poll_interval = "10ms"
[lanes.default]
connection_string_env = "SERVICE_BUS"
management_endpoint = "http://localhost:{http}"
[[topics]]
name = "orders"
[telemetry]
service_name = "orders-relay"
"#;

struct Relay {
    emulator: Emulator,
    folder: TempDir,
    pool: SqlitePool,
}

impl Relay {
    /// With its tables, its topic, and an event that waits.
    async fn new() -> Self {
        let entities = serde_json::json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] });
        let (emulator, folder) = (Emulator::in_memory(&entities), tempfile::tempdir().unwrap());
        let config = CONFIG.replace("{http}", &emulator.http().port().to_string());
        std::fs::write(folder.path().join("relay.toml"), config).unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("shop.db").display());
        let relay = Self { emulator, folder, pool: SqlitePool::connect(&url).await.unwrap() };
        for arguments in [&["migrate"][..], &["topology", "--ensure"]] {
            let output = relay.command(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let (trace, span) = PUBLISHED;
        let published = format!(
            "INSERT INTO outbox (id, event_type, event_data, topic, headers) VALUES \
             (randomblob(16), 'order-placed', '{{}}', 'orders', '{{\"traceparent\":\"00-{trace}-{span}-01\"}}')"
        );
        sqlx::raw_sql(AssertSqlSafe(published)).execute(&relay.pool).await.unwrap();
        relay
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("distributed-events"));
        command.args(["--config", "relay.toml"]).args(arguments).current_dir(self.folder.path());
        command.env("DATABASE_URL", "sqlite:shop.db").env("SERVICE_BUS", self.emulator.connection_string());
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, environment: &[(&str, &str)]) -> Child {
        self.command(&["relay"]).envs(environment.iter().copied()).spawn().unwrap()
    }

    async fn has_sent(&self) {
        let sent = "SELECT count(*) FROM outbox WHERE status = 'sent'";
        let look = || async { sqlx::query_scalar::<_, i64>(sent).fetch_one(&self.pool).await.unwrap() };
        eventually("the event is sent", look, |sent| *sent == 1).await;
    }
}

/// As a supervisor stops it; returns its log.
fn stop(child: Child) -> String {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("the relay has stopped"), "{log}");
    log
}

#[tokio::test]
async fn a_relay_exports_what_it_did_before_it_ends() {
    let (relay, collector) = (Relay::new().await, Collector::plain());
    // Nothing is due before the end.
    let child = relay.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address())),
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ]);
    relay.has_sent().await;
    let log = stop(child);
    assert!(!log.contains("WARN"), "{log}");
    let posted = collector.posted();
    let to = |path: &'static str| posted.iter().filter(move |posted| posted.path == path);
    let spans: Vec<_> = to("/v1/traces").flat_map(spans).collect();
    let sent = spans.iter().find(|span| span.name == "send orders");
    let sent = sent.unwrap_or_else(|| panic!("no `send orders` among {spans:#?}"));
    assert_eq!(
        (sent.service.as_str(), sent.links.as_slice()),
        ("orders-relay", &[PUBLISHED.1.to_owned()][..])
    );
    let units: std::collections::BTreeMap<_, _> = to("/v1/metrics").flat_map(units).collect();
    for metric in [SENT, PUBLISH_LAG] {
        let of_relay = ("orders-relay".to_owned(), metric.name.to_owned());
        assert_eq!(units.get(&of_relay).map(String::as_str), Some(metric.unit), "{units:#?}");
    }
}

#[tokio::test]
async fn the_environment_names_the_service() {
    let (relay, collector) = (Relay::new().await, Collector::plain());
    let child = relay.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address())),
        ("OTEL_SERVICE_NAME", "named"),
    ]);
    relay.has_sent().await;
    stop(child);
    let posted = collector.posted();
    let spans: Vec<_> = posted.iter().filter(|posted| posted.path == "/v1/traces").flat_map(spans).collect();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.service == "named"), "{spans:#?}");
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_once_and_holds_up_nothing() {
    let relay = Relay::new().await;
    // Nobody listens on this port.
    let child = relay.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "20"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ]);
    relay.has_sent().await;
    let log = stop(child);
    let told = log.lines().filter(|line| line.contains("are lost until they can")).count();
    assert_eq!(told, 1, "{log}");
    assert!(log.contains("127.0.0.1:1"), "{log}");
}

#[tokio::test]
async fn an_endpoint_that_makes_no_sense_is_told_and_holds_up_nothing() {
    let relay = Relay::new().await;
    let child = relay.start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a URL")]);
    relay.has_sent().await;
    let log = stop(child);
    assert_eq!(log.matches("no traces and no metrics are exported").count(), 1, "{log}");
    assert!(log.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{log}");
}
