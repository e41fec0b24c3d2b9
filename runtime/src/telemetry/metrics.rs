//! The instruments, on a meter of OpenTelemetry.

use std::fmt;
use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::names::{self, Metric, MetricKind};

/// The name of the meter that the global provider is asked for.
const METER: &str = "distributed_events";

/// Seconds, from what an idle broker on this machine takes to what an outage takes.
const BOUNDARIES: [f64; 20] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0, 14_400.0, 86_400.0,
];

/// What one measurement is about, to be used for many.
#[derive(Clone, Debug)]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(crate) fn new(pairs: &[(&'static str, &str)]) -> Self {
        let said = pairs.iter().filter(|(_, value)| !value.is_empty());
        Self(said.map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect())
    }

    /// The same with the kind of a failure.
    pub(crate) fn failed(mut self, kind: Option<&'static str>) -> Self {
        self.0.extend(kind.map(|kind| KeyValue::new(names::ERROR_TYPE, kind)));
        self
    }
}

/// The instruments of a bus. Made when the first is used, so that a global provider may be set after the bus is built.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    meter: Option<Meter>,
    instruments: Arc<OnceLock<Instruments>>,
}

struct Instruments {
    counters: Vec<(&'static str, Counter<u64>)>,
    histograms: Vec<(&'static str, Histogram<f64>)>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("meter", &self.meter.is_some()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// On a meter of the caller's.
    pub(crate) fn on(meter: Meter) -> Self {
        Self { meter: Some(meter), instruments: Arc::default() }
    }

    /// The meter: the caller's, or the global provider's.
    pub(crate) fn meter(&self) -> Meter {
        self.meter.clone().unwrap_or_else(|| opentelemetry::global::meter(METER))
    }

    fn instruments(&self) -> &Instruments {
        self.instruments.get_or_init(|| Instruments::new(&self.meter()))
    }

    pub(crate) fn count(&self, metric: &Metric, count: u64, attributes: &Attributes) {
        if let Some(counter) = found(&self.instruments().counters, metric) {
            counter.add(count, &attributes.0);
        }
    }

    pub(crate) fn record(&self, metric: &Metric, value: f64, attributes: &Attributes) {
        if let Some(histogram) = found(&self.instruments().histograms, metric) {
            histogram.record(value, &attributes.0);
        }
    }
}

fn found<'a, T>(instruments: &'a [(&'static str, T)], metric: &Metric) -> Option<&'a T> {
    // The same text at the same place, mostly: there are a dozen.
    instruments.iter().find(|(name, _)| *name == metric.name).map(|(_, instrument)| instrument)
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let of = |kind| names::METRICS.iter().filter(move |metric| metric.kind == kind);
        let counter = |metric: &Metric| {
            let builder = meter.u64_counter(metric.name).with_unit(metric.unit);
            (metric.name, builder.with_description(metric.description).build())
        };
        let histogram = |metric: &Metric| {
            let builder = meter.f64_histogram(metric.name).with_unit(metric.unit);
            let builder = builder.with_description(metric.description);
            (metric.name, builder.with_boundaries(BOUNDARIES.to_vec()).build())
        };
        Self {
            counters: of(MetricKind::Counter).map(counter).collect(),
            histograms: of(MetricKind::Histogram).map(histogram).collect(),
        }
    }
}
