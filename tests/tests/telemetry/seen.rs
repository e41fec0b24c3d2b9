//! What OpenTelemetry's SDK has been told, in memory.

use std::cell::Cell;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tests::eventually::eventually;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// What is traced in this process, by whatever thread: a span that closes on one of sqlx's closes its parent only where
/// that thread has the same subscriber.
static TRACED: LazyLock<InMemorySpanExporter> = LazyLock::new(|| {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let of_the_listener = dynamic_filter_fn(|_, _| LISTENS.get());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(of_the_listener).with(layer))
        .unwrap();
    exporter
});
static ONE_LISTENS: Mutex<()> = Mutex::new(());
thread_local!(static LISTENS: Cell<bool> = const { Cell::new(false) });

/// Every span that this thread, and so a test with its services, begins while this lives. One test at a time does that.
pub(crate) struct Traces {
    _alone: MutexGuard<'static, ()>,
}

impl Traces {
    pub(crate) fn listen() -> Self {
        let alone = ONE_LISTENS.lock().unwrap_or_else(PoisonError::into_inner);
        TRACED.reset();
        LISTENS.set(true);
        Self { _alone: alone }
    }

    pub(crate) fn all(&self) -> Vec<SpanData> {
        TRACED.get_finished_spans().unwrap()
    }

    /// The spans of a name, once there are so many.
    pub(crate) async fn named(&self, name: &str, count: usize) -> Vec<SpanData> {
        let look = || async { self.all().into_iter().filter(|span| span.name == name).collect() };
        eventually(name, look, |spans: &Vec<SpanData>| spans.len() >= count).await
    }

    /// The one span of a name.
    pub(crate) async fn one(&self, name: &str) -> SpanData {
        let mut spans = self.named(name, 1).await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        LISTENS.set(false);
    }
}

/// An attribute as text; empty where there is none.
pub(crate) fn attribute(span: &SpanData, name: &str) -> String {
    said(&span.attributes, name)
}

pub(crate) fn said(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map_or_else(String::new, |attribute| attribute.value.to_string())
}

/// Whether a span was made inside another one.
pub(crate) fn is_child(child: &SpanData, parent: &SpanData) -> bool {
    child.span_context.trace_id() == parent.span_context.trace_id()
        && child.parent_span_id == parent.span_context.span_id()
}

/// Everything that is measured on its meters.
pub(crate) struct Figures {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
}

impl Figures {
    pub(crate) fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        Self { exporter, provider: SdkMeterProvider::builder().with_reader(reader).build() }
    }

    pub(crate) fn meter(&self) -> Meter {
        self.provider.meter("tests")
    }

    /// Collects, and gives what there is of a metric: by its attributes, sorted and as text, its value, which of a
    /// histogram is how often it was recorded.
    pub(crate) fn of(&self, metric: &str) -> Vec<(String, f64)> {
        self.exporter.reset();
        self.provider.force_flush().unwrap();
        let collected = self.exporter.get_finished_metrics().unwrap();
        let metrics = collected.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics());
        let mut found: Vec<_> =
            metrics.filter(|found| found.name() == metric).flat_map(|found| points(found.data())).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// The same once it is as a test wants it.
    pub(crate) async fn become_so(&self, metric: &str, expected: &[(&str, f64)]) {
        let expected: Vec<_> =
            expected.iter().map(|(attributes, value)| ((*attributes).to_owned(), *value)).collect();
        eventually(metric, || async { self.of(metric) }, |found| *found == expected).await;
    }
}

fn points(data: &AggregatedMetrics) -> Vec<(String, f64)> {
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            sum.data_points().map(|point| (text(point.attributes()), point.value() as f64)).collect()
        }
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
            gauge.data_points().map(|point| (text(point.attributes()), point.value() as f64)).collect()
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            gauge.data_points().map(|point| (text(point.attributes()), point.value())).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram.data_points().map(|point| (text(point.attributes()), point.count() as f64)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn text<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut all: Vec<_> = attributes.map(|found| format!("{}={}", found.key, found.value)).collect();
    all.sort();
    all.join(" ")
}
