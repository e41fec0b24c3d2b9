//! Traces and metrics to Azure Application Insights, whose resource `APPLICATIONINSIGHTS_CONNECTION_STRING` names.

use opentelemetry_application_insights::Exporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use telemetry::{Client, Failure, Service, resource, trace_to};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let service = Service::of_arguments()?;
    let resource_of_azure = std::env::var("APPLICATIONINSIGHTS_CONNECTION_STRING")?;
    let exporter = Exporter::new_from_connection_string(resource_of_azure, Client::new()?)?;

    let tracers = SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_batch_exporter(exporter.clone())
        .build();
    trace_to(&tracers);

    let reader = PeriodicReader::builder(exporter).build();
    let meters = SdkMeterProvider::builder().with_resource(resource(service)).with_reader(reader).build();
    opentelemetry::global::set_meter_provider(meters.clone());

    service.run().await?;
    // What has not been exported yet is now; on another thread, since it waits for this runtime.
    tokio::task::spawn_blocking(move || tracers.shutdown().and(meters.shutdown())).await??;
    Ok(())
}
