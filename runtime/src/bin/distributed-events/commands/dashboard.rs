//! The dashboard as a service of its own.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use distributed_events::dashboard::Dashboard;
use distributed_events::shutdown_signal;
use distributed_events::storage::OperatorStorage;
use serde_json::json;
use sqlx::Pool;
use tokio::net::TcpListener;

use crate::arguments::Dashboard as Arguments;
use crate::commands::topology;
use crate::config::Config;
use crate::database::DatabaseUrl;
use crate::failure::Failure;
use crate::output::{Format, json, note, say};

const READ_TOKEN: &str = "DISTRIBUTED_EVENTS_READ_TOKEN";
const WRITE_TOKEN: &str = "DISTRIBUTED_EVENTS_WRITE_TOKEN";
/// A shorter one can be guessed.
const SHORTEST: usize = 16;

/// Connections of the pages that are asked for at a time.
pub(super) const CONNECTIONS: u32 = 5;

/// What the environment lets people do.
#[derive(Debug)]
pub(super) struct Tokens {
    read: Option<String>,
    write: Option<String>,
}

impl Tokens {
    /// # Errors
    /// When one can be guessed, or when there is none and others than this machine could come.
    pub(super) fn for_listening_at(arguments: &Arguments) -> Result<Self, Failure> {
        let tokens = Self { read: token(READ_TOKEN)?, write: token(WRITE_TOKEN)? };
        if tokens.are_missing() && !arguments.listen.ip().is_loopback() {
            return Err(Failure::Usage(format!(
                "at {} others than this machine can come: set {READ_TOKEN} for those who may look, and {WRITE_TOKEN} for those \
                 who may requeue and discard, for example to `openssl rand -hex 32`; or listen at 127.0.0.1",
                arguments.listen
            )));
        }
        Ok(tokens)
    }

    const fn are_missing(&self) -> bool {
        self.read.is_none() && self.write.is_none()
    }
}

fn token(variable: &str) -> Result<Option<String>, Failure> {
    let token = std::env::var(variable).unwrap_or_default();
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() < SHORTEST {
        return Err(Failure::Usage(format!(
            "{variable} has fewer than {SHORTEST} characters and could be guessed: make one with `openssl rand -hex 32`"
        )));
    }
    Ok(Some(token))
}

pub(super) async fn run<DB: OperatorStorage>(
    pool: Pool<DB>,
    url: &DatabaseUrl,
    arguments: &Arguments,
    config: &Config,
    tokens: Tokens,
    format: Format,
) -> Result<(), Failure> {
    let address = arguments.listen;
    let mut dashboard = Dashboard::new(pool);
    if let Some(token) = &tokens.read {
        dashboard = dashboard.read_token(token);
    }
    if let Some(token) = &tokens.write {
        dashboard = dashboard.write_token(token);
    }
    if tokens.are_missing() {
        dashboard = dashboard.host_lets_in_writers();
    }
    if address.ip().is_loopback() || arguments.plain_http {
        dashboard = dashboard.over_plain_http();
    }
    if let Some(origin) = &arguments.origin {
        dashboard = dashboard.origin(origin);
    }
    if arguments.hide_payloads {
        dashboard = dashboard.hide_payloads();
    }
    if arguments.hide_errors {
        dashboard = dashboard.hide_errors();
    }
    if let Some(file) = &arguments.topology {
        dashboard = dashboard.topology(topology::read(file)?);
    } else if !config.topics.is_empty() || !config.subscriptions.is_empty() {
        dashboard = dashboard.topology(topology::declared(config)?);
    }
    let mut router = dashboard.router();
    if tokens.are_missing() {
        router = router.layer(middleware::from_fn(for_this_machine));
    }
    let refused =
        |error: std::io::Error| Failure::Failed(format!("nothing can be served at {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let place = format!("http://{}/", listener.local_addr().map_err(refused)?);
    match format {
        Format::People => say(&format!("the dashboard of {url} is at {place}"))?,
        Format::Json => json(&json!({ "database": url.to_string(), "url": place }))?,
    }
    if tokens.are_missing() {
        note(&format!(
            "note: whoever uses this machine may look and change: {READ_TOKEN} and {WRITE_TOKEN} are not set"
        ));
    } else if tokens.write.is_none() {
        note(&format!("note: nobody may requeue or discard: {WRITE_TOKEN} is not set"));
    }
    axum::serve(listener, router).with_graceful_shutdown(shutdown_signal()).await.map_err(refused)
}

/// Where no token is asked for, a page of another site must not get in by a name of its own that leads to this machine.
async fn for_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    if matches!(name, "localhost" | "[::1]")
        || name.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
    {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "Without tokens this is for this machine alone: ask for it as localhost.\n",
    )
        .into_response()
}
