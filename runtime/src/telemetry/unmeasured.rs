//! Stands for the instruments where the feature `otel` is off.

use super::names::Metric;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes;

impl Attributes {
    pub(crate) const fn new(_pairs: &[(&'static str, &str)]) -> Self {
        Self
    }

    pub(crate) const fn failed(self, _kind: Option<&'static str>) -> Self {
        self
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metrics;

impl Metrics {
    pub(crate) const fn count(&self, _metric: &Metric, _count: u64, _attributes: &Attributes) {}

    pub(crate) const fn record(&self, _metric: &Metric, _value: f64, _attributes: &Attributes) {}
}
