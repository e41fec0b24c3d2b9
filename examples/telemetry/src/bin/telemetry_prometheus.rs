//! Metrics for Prometheus to scrape, at `/metrics` of the address in the second argument (default `127.0.0.1:9464`).

use axum::Router;
use axum::routing::get;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use telemetry::{Failure, Service, resource};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let service = Service::of_arguments()?;
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    let meters = SdkMeterProvider::builder().with_resource(resource(service)).with_reader(reader).build();
    opentelemetry::global::set_meter_provider(meters);

    let address = std::env::args().nth(2).unwrap_or_else(|| "127.0.0.1:9464".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("metrics at http://{}/metrics", listener.local_addr()?);
    let text = move || async move {
        TextEncoder::new().encode_to_string(&registry.gather()).map_err(|error| error.to_string())
    };
    let server = axum::serve(listener, Router::new().route("/metrics", get(text)));
    tokio::select! {
        ran = service.run() => ran,
        served = server => Ok(served?),
    }
}
