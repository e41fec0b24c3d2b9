//! What the relay says of itself: its log and, where the environment says where to, traces and metrics by OTLP.

#[cfg(feature = "cli-otel")]
mod otlp;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt};

use crate::config::{Log, Telemetry as Settings};

/// Where traces and metrics go (OpenTelemetry, "OTLP exporter configuration").
const ENDPOINTS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
];

/// What has to be said before the process ends.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "cli-otel")]
    exporting: Option<otlp::Exporting>,
}

impl Telemetry {
    /// Begins to log to the standard error, where a supervisor of services looks, and to export.
    pub(crate) fn start(log: &Log, settings: &Settings) -> Self {
        let filter = EnvFilter::try_from_default_env()
            .or_else(|_| EnvFilter::try_new(&log.filter))
            .unwrap_or_default();
        let written = fmt::layer::<Registry>().with_writer(std::io::stderr).with_ansi(false);
        let written = if log.json { written.json().boxed() } else { written.boxed() };
        let registry = tracing_subscriber::registry().with(written.with_filter(filter));
        Self::export(registry, settings)
    }

    #[cfg(feature = "cli-otel")]
    fn export(
        registry: impl tracing::Subscriber
        + for<'span> tracing_subscriber::registry::LookupSpan<'span>
        + Send
        + Sync
        + 'static,
        settings: &Settings,
    ) -> Self {
        let exporting = is_wanted().then(|| otlp::Exporting::start(settings)).transpose();
        let (exporting, refused) =
            exporting.map_or_else(|refused| (None, Some(refused)), |found| (found, None));
        let spans = exporting.as_ref().map(otlp::Exporting::layer);
        // Nobody has set one before.
        let _first = registry.with(spans).try_init();
        if let Some(reason) = refused {
            tracing::warn!(reason, "no traces and no metrics are exported: mend {}", ENDPOINTS[0]);
        }
        Self { exporting }
    }

    #[cfg(not(feature = "cli-otel"))]
    fn export(registry: impl Into<tracing::Dispatch>, _settings: &Settings) -> Self {
        // Nobody has set one before.
        let _first = registry.try_init();
        if is_wanted() {
            tracing::warn!(
                "no traces and no metrics are exported: this binary was built without the feature `cli-otel`"
            );
        }
        Self::default()
    }

    /// Exports what has not been yet.
    pub(crate) async fn finish(self) {
        #[cfg(feature = "cli-otel")]
        if let Some(exporting) = self.exporting {
            exporting.finish().await;
        }
    }
}

fn is_wanted() -> bool {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.trim().eq_ignore_ascii_case("true"));
    !is_disabled && ENDPOINTS.iter().any(is_set)
}
