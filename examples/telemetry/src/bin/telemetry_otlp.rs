//! Traces and metrics over OTLP, to a collector at `OTEL_EXPORTER_OTLP_ENDPOINT` (default `http://localhost:4318`).

use opentelemetry_otlp::{MetricExporter, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use telemetry::{Client, Failure, Service, resource, trace_to};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let service = Service::of_arguments()?;
    let client = Client::new()?;

    let spans = SpanExporter::builder().with_http().with_http_client(client.clone()).build()?;
    let tracers =
        SdkTracerProvider::builder().with_resource(resource(service)).with_batch_exporter(spans).build();
    trace_to(&tracers);

    let figures = MetricExporter::builder().with_http().with_http_client(client).build()?;
    let meters =
        SdkMeterProvider::builder().with_resource(resource(service)).with_periodic_exporter(figures).build();
    opentelemetry::global::set_meter_provider(meters.clone());

    service.run().await?;
    // What has not been exported yet is now; on another thread, since it waits for this runtime.
    tokio::task::spawn_blocking(move || tracers.shutdown().and(meters.shutdown())).await??;
    Ok(())
}
