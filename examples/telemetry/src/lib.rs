//! What the programs of this package share: two services to look at, and how exporters reach the network.
//!
//! Each program runs one of the services, `ordering` or `billing`, and shows one exporter. README.md has the commands.

mod client;
mod shop;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use client::Client;
pub use shop::{Failure, Service};

/// What this process is called wherever its traces and metrics are shown.
pub fn resource(service: Service) -> Resource {
    Resource::builder().with_service_name(service.name()).build()
}

/// Sends the process's spans to the exporter of this provider, and its log to standard error.
pub fn trace_to(provider: &SdkTracerProvider) {
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(spans.with_filter(LevelFilter::INFO))
        .with(log.with_filter(EnvFilter::from_default_env()))
        .init();
}
