//! Application Insights: what its ingestion endpoint is sent, which the exporter speaks to over TLS alone.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::collector::{Collector, Posted};
use crate::shop::Shop;
use crate::shown::{Shown, assert_joined};

fn items(posted: &Posted) -> Vec<Value> {
    assert!(posted.path.ends_with("/track"), "{}", posted.path);
    assert_eq!(posted.headers["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(posted.body.as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A request or a dependency, which is what spans are made of.
fn span(item: &Value) -> Option<Shown> {
    let kind = item["data"]["baseType"].as_str()?;
    let (data, tags) = (&item["data"]["baseData"], &item["tags"]);
    let properties: HashMap<String, String> = data["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    ["RequestData", "RemoteDependencyData"].contains(&kind).then(|| Shown {
        service: text(&tags["ai.cloud.role"]),
        name: text(&data["name"]),
        trace: text(&tags["ai.operation.id"]),
        id: text(&data["id"]),
        parent: text(&tags["ai.operation.parentId"]),
        failed: data["success"] == false,
        attributes: properties,
        links: Vec::new(),
    })
}

#[test]
fn application_insights_is_shown_one_trace_through_both_services() {
    let (collector, certificate) = Collector::over_tls();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).unwrap();
    let connection = format!(
        "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=https://{}",
        collector.address()
    );
    let environment = [
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", connection.as_str()),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    let mut shop = Shop::open("telemetry_application_insights", &environment, &[]);
    shop.sell_three();
    shop.close();

    let items: Vec<_> = collector.posted().iter().flat_map(items).collect();
    let spans: Vec<_> = items.iter().filter_map(span).collect();
    assert_joined(&spans, false);

    let kind = |name: &str| {
        let found = items.iter().find(|item| item["data"]["baseData"]["name"] == name);
        text(&found.unwrap_or_else(|| panic!("{name}"))["data"]["baseType"])
    };
    assert_eq!(kind("process orders"), "RequestData", "what a service is asked to do");
    assert_eq!(kind("publish orders"), "RemoteDependencyData", "what it asks others to do");
    let shows =
        |metric: &str| items.iter().any(|item| item["data"]["baseData"]["metrics"][0]["name"] == metric);
    for metric in ["distributed_events.outbox.rows", "distributed_events.end_to_end.latency"] {
        assert!(shows(metric), "{metric}");
    }
}
