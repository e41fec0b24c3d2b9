//! OTLP over HTTP, decoded.

use std::collections::{BTreeMap, HashMap};

use distributed_events::telemetry::names::{END_TO_END_LATENCY, METRICS, OUTBOX_ROWS, SENT, THROTTLED};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::collector::{Collector, Posted};
use crate::shop::Shop;
use crate::shown::{Shown, assert_joined};

fn text(attributes: &[KeyValue]) -> HashMap<String, String> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    attributes.iter().filter_map(|found| Some((found.key.clone(), value(found)?))).collect()
}

fn service(resource: Option<Resource>) -> String {
    text(&resource.unwrap().attributes)["service.name"].clone()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn spans(posted: &Posted) -> Vec<Shown> {
    assert_eq!(posted.headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(posted.body.as_slice()).unwrap();
    let mut shown = Vec::new();
    for resource in request.resource_spans {
        let service = service(resource.resource);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            shown.push(Shown {
                service: service.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
                attributes: text(&span.attributes),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                name: span.name,
            });
        }
    }
    shown
}

/// Every metric's unit, by service and name.
pub(crate) fn units(posted: &Posted) -> BTreeMap<(String, String), String> {
    let request = ExportMetricsServiceRequest::decode(posted.body.as_slice()).unwrap();
    let mut units = BTreeMap::new();
    for resource in request.resource_metrics {
        let service = service(resource.resource);
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            units.insert((service.clone(), metric.name), metric.unit);
        }
    }
    units
}

#[test]
fn a_collector_is_shown_one_trace_through_both_services_and_the_metrics_of_each() {
    let collector = Collector::plain();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address())),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut shop = Shop::open("telemetry_otlp", &environment, &[]);
    shop.sell_three();
    shop.close();

    let posted = collector.posted();
    let to = |path: &'static str| posted.iter().filter(move |posted| posted.path == path);
    let spans: Vec<_> = to("/v1/traces").flat_map(spans).collect();
    assert_joined(&spans, true);

    let units: BTreeMap<_, _> = to("/v1/metrics").flat_map(units).collect();
    for ((_, name), unit) in &units {
        let known = METRICS.iter().find(|metric| metric.name == name);
        assert_eq!(known.map(|metric| metric.unit), Some(unit.as_str()), "{name}");
    }
    for service in ["ordering", "billing"] {
        for metric in [SENT, END_TO_END_LATENCY, OUTBOX_ROWS, THROTTLED] {
            let shown = units.contains_key(&(service.to_owned(), metric.name.to_owned()));
            assert!(shown, "{service}: {}\n{units:#?}", metric.name);
        }
    }
}
