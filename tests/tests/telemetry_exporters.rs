//! The examples of exporters, as processes: two services over the emulator of Service Bus, and what they say to a
//! collector of OTLP, to Application Insights, and to Prometheus. And the relay of the command line, which has one built in.

#[path = "telemetry_exporters/application_insights.rs"]
mod application_insights;
#[path = "telemetry_exporters/collector.rs"]
mod collector;
#[path = "telemetry_exporters/otlp.rs"]
mod otlp;
#[path = "telemetry_exporters/prometheus.rs"]
mod prometheus;
#[path = "telemetry_exporters/relay.rs"]
mod relay;
#[path = "telemetry_exporters/shop.rs"]
mod shop;
#[path = "telemetry_exporters/shown.rs"]
mod shown;
