//! The alert rules of the examples: they name what there is, say what they are to say, and each is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use distributed_events::telemetry::names::{self, METRICS, Metric, MetricKind};

const RULES: &str = include_str!("../../examples/alerts/prometheus.yml");
const RULE_TESTS: &str = include_str!("../../examples/alerts/prometheus.tests.yml");
const BICEP: &str = include_str!("../../examples/alerts/azure_monitor.bicep");
const README: &str = include_str!("../../examples/alerts/README.md");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/alerts")
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(folder()).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "promtool can't be run ({error}): `tests/servers install tools` installs it, and ./tests/run does"
        )
    });
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules() {
    promtool(&["check", "rules", "prometheus.yml"]);
}

#[test]
fn each_rule_fires_in_its_trouble_and_none_in_an_ordinary_hour() {
    promtool(&["test", "rules", "prometheus.tests.yml"]);
    let alerts = prometheus_alerts();
    let fired = RULE_TESTS.lines().filter_map(|line| line.split("{alertname=\"").nth(1)?.split('"').next());
    assert_eq!(alerts, fired.map(str::to_owned).collect(), "each has a trouble of its own");
}

fn prometheus_alerts() -> BTreeSet<String> {
    let found = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    found.map(str::to_owned).collect()
}

fn azure_alerts() -> BTreeSet<String> {
    let found = BICEP.lines().filter_map(|line| line.strip_prefix("    name: '")?.strip_suffix('\''));
    found.map(str::to_owned).collect()
}

#[test]
fn every_alert_is_explained_and_nothing_else_is() {
    let explained: BTreeSet<_> =
        README.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(explained, prometheus_alerts());
    let azure = azure_alerts();
    assert!(azure.len() >= 15 && azure.is_subset(&explained), "{azure:?}");
}

/// The name as the exporter for Prometheus writes it.
fn in_prometheus(metric: &Metric) -> Vec<String> {
    let name = metric.name.replace('.', "_");
    let name = if metric.unit == "s" { format!("{name}_seconds") } else { name };
    match metric.kind {
        MetricKind::Counter | MetricKind::ObservedCounter => vec![format!("{name}_total")],
        MetricKind::Histogram => ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).to_vec(),
        _ => vec![name],
    }
}

/// The attributes by which metrics are told apart.
const LABELS: [&str; 8] = [
    names::SUBSCRIPTION,
    names::LANE,
    names::STATE,
    names::EVENT,
    names::OUTCOME,
    names::INCIDENT,
    names::SERVER,
    names::TABLE,
];

#[test]
fn rules_of_prometheus_name_metrics_and_labels_that_there_are() {
    let metrics: BTreeSet<String> = METRICS.iter().flat_map(in_prometheus).collect();
    let labels: BTreeSet<String> = LABELS.iter().map(|label| label.replace('.', "_")).collect();
    let words = RULES.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = ["distributed_events_", "messaging_", "server_"];
    let named: BTreeSet<&str> =
        words.filter(|word| ours.iter().any(|start| word.starts_with(start))).collect();
    assert!(named.len() >= 15, "{named:?}");
    for name in named {
        assert!(metrics.contains(name) || labels.contains(name), "{name} is neither a metric nor a label");
    }
}

#[test]
fn queries_of_azure_monitor_name_metrics_and_attributes_that_there_are() {
    let queries: Vec<_> = BICEP.lines().filter_map(|line| line.strip_prefix("    query: ")).collect();
    assert_eq!(queries.len(), azure_alerts().len());
    for query in queries {
        let metric = query.split("name == \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(METRICS.iter().any(|known| known.name == metric), "{metric}: {query}");
        for attribute in query.split("customDimensions[\"").skip(1) {
            let attribute = attribute.split('"').next().unwrap();
            assert!(LABELS.contains(&attribute), "{attribute}: {query}");
        }
        assert!(
            query.contains(" figure = ") && query.contains(" by service = ") && query.contains(" owner = "),
            "{query}"
        );
        assert_eq!(query.matches('\'').count(), 2, "a quote would end the text: {query}");
    }
    for (open, close) in [('{', '}'), ('[', ']'), ('(', ')')] {
        assert_eq!(BICEP.matches(open).count(), BICEP.matches(close).count(), "{open}");
    }
}
