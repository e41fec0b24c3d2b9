//! Traces and metrics by OTLP over HTTP. A collector that is away, or refuses, is told once, and keeps nobody from relaying.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::Handle;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{Filtered, LevelFilter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Telemetry as Settings;
use crate::failure::with_causes;
use crate::https::{Connector, connector};

/// How long a collector may take for an answer, and the process for its last words.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a relay is called where nobody has named it.
const NAME: &str = "distributed-events-relay";

/// The providers of traces and metrics.
#[derive(Debug)]
pub(super) struct Exporting {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
}

impl Exporting {
    /// By the environment, as OpenTelemetry names its variables.
    ///
    /// # Errors
    /// With what makes no sense.
    pub(super) fn start(settings: &Settings) -> Result<Self, String> {
        let client = Client::new()?;
        let spans = SpanExporter::builder().with_http().with_http_client(client.clone()).build();
        let spans = spans.map_err(|error| error.to_string())?;
        let figures = MetricExporter::builder().with_http().with_http_client(client).build();
        let figures = figures.map_err(|error| error.to_string())?;
        let resource = resource(settings);
        let tracers =
            SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
        let meters =
            SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(figures).build();
        opentelemetry::global::set_meter_provider(meters.clone());
        Ok(Self { tracers, meters })
    }

    /// Takes the spans of the relays.
    pub(super) fn layer<S>(&self) -> Filtered<OpenTelemetryLayer<S, Tracer>, LevelFilter, S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.tracers.tracer("distributed_events");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(LevelFilter::INFO)
    }

    /// Exports the rest, for as long as that may take.
    pub(super) async fn finish(self) {
        // On another thread, since it waits for this runtime.
        let rest = tokio::task::spawn_blocking(move || {
            let spans = self.tracers.shutdown_with_timeout(LAST_WORDS);
            let figures = self.meters.shutdown_with_timeout(LAST_WORDS);
            spans.and(figures)
        });
        let is_done = matches!(tokio::time::timeout(LAST_WORDS, rest).await, Ok(Ok(Ok(()))));
        if !is_done {
            tracing::warn!("the last traces and metrics could not be exported");
        }
    }
}

/// `OTEL_SERVICE_NAME` names the service, else `OTEL_RESOURCE_ATTRIBUTES`, else the configuration.
fn resource(settings: &Settings) -> Resource {
    let set = |name| std::env::var(name).unwrap_or_default();
    let is_named = !set("OTEL_SERVICE_NAME").is_empty()
        || set("OTEL_RESOURCE_ATTRIBUTES").split(',').any(|pair| pair.trim().starts_with("service.name="));
    let resource = Resource::builder();
    if is_named {
        return resource.build();
    }
    resource.with_service_name(settings.service_name.clone().unwrap_or_else(|| NAME.to_owned())).build()
}

/// Exporters work on threads of their own; their requests are made on the relay's runtime.
#[derive(Clone, Debug)]
struct Client {
    client: HyperClient<Connector>,
    runtime: Handle,
    /// Whether the last request failed, which has been told.
    failing: Arc<AtomicBool>,
}

impl Client {
    fn new() -> Result<Self, String> {
        Ok(Self {
            client: HyperClient::new(connector()?, PATIENCE, None),
            runtime: Handle::current(),
            failing: Arc::default(),
        })
    }

    /// Tells of the first failure, and of the first success after it.
    fn tell(&self, collector: &str, answer: &Result<Response<Bytes>, HttpError>) {
        let reason = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers with {}", answer.status())),
            Err(error) => Some(with_causes(error.as_ref())),
        };
        match (reason, self.failing.load(Ordering::Relaxed)) {
            (Some(reason), false) => {
                self.failing.store(true, Ordering::Relaxed);
                tracing::warn!(
                    collector,
                    reason,
                    "traces and metrics can't be exported, and are lost until they can: look whether the collector runs, and \
                     what OTEL_EXPORTER_OTLP_ENDPOINT says; events are relayed all the same"
                );
            }
            (None, true) => {
                self.failing.store(false, Ordering::Relaxed);
                tracing::info!(collector, "traces and metrics are exported again");
            }
            _ => {}
        }
    }
}

impl HttpClient for Client {
    // As `async_trait` writes it.
    fn send_bytes<'client, 'sent>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'client: 'sent,
        Self: 'sent,
    {
        // Without what may be a key of a vendor's: the path and the query.
        let uri = request.uri();
        let collector = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |place| place.as_str().rsplit('@').next().unwrap_or_default())
        );
        Box::pin(async move {
            let client = self.client.clone();
            let sent = self.runtime.spawn(async move { client.send_bytes(request).await }).await;
            let answer = sent.unwrap_or_else(|error| Err(error.into()));
            self.tell(&collector, &answer);
            answer
        })
    }
}
