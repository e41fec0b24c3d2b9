//! What can be said about the dashboard.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Serves the dashboard of a database, until Ctrl-C or SIGTERM.
///
/// Tokens come from the environment: DISTRIBUTED_EVENTS_READ_TOKEN lets people look, DISTRIBUTED_EVENTS_WRITE_TOKEN lets
/// them requeue and discard, too. Without any it serves nobody but this machine, and whoever uses that may change things.
/// It speaks plain HTTP: for any other address put a proxy with TLS before it.
#[derive(Args, Debug)]
pub(crate) struct Dashboard {
    /// Where it listens; port 0 for any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where browsers see it, such as https://ops.example.org, behind a proxy that changes the Host header.
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Option<String>,
    /// There is no TLS before it: tokens and log-ins travel in the clear.
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Shows no payloads and no headers.
    #[arg(long)]
    pub(crate) hide_payloads: bool,
    /// Shows no error texts, which may repeat what is in an event, and looks for none.
    #[arg(long)]
    pub(crate) hide_errors: bool,
    /// The JSON of a service's own `bus.topology()`, for the picture, instead of what the configuration declares.
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
}
