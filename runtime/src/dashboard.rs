//! A dashboard of the outbox and inbox, as an axum router that any service can mount: depths, throughput and waits over the
//! last hours, lanes and leases with their holders, the topology as a picture, rows to be searched, an event with its payload
//! and its causation chain across both tables, requeue and discard with a reason.
//!
//! ```no_run
//! # fn example(pool: sqlx::SqlitePool, bus: distributed_events::EventBus<sqlx::Sqlite>, app: axum::Router) -> axum::Router {
//! use distributed_events::dashboard::Dashboard;
//!
//! let dashboard = Dashboard::new(pool).read_token("...").write_token("...").topology(bus.topology());
//! app.nest("/events", dashboard.router())
//! # }
//! ```
//!
//! What it asks of the database is what [`admin`](crate::admin) asks, so that nothing scans retained history. Pages are
//! complete without JavaScript, ask for nothing from elsewhere, and forbid it by their content security policy.
//!
//! # Who may see it
//!
//! Nobody, until something is said: a token for reading ([`Dashboard::read_token`]) and one for changing
//! ([`Dashboard::write_token`]), sent as a bearer header or through the log-in form; or
//! [`Dashboard::host_lets_in_readers`] and [`Dashboard::host_lets_in_writers`], where a layer of the service's own stands
//! before the router. Payloads and errors may hold what not every operator may see: [`Dashboard::hide_payloads`],
//! [`Dashboard::hide_errors`], [`Dashboard::redact`].

mod access;
mod changes;
mod charts;
mod chosen;
mod event;
mod lists;
mod login;
mod overview;
mod page;
mod payload;
mod picture;
mod topology;
mod visit;
mod words;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use sqlx::Pool;

use self::access::Doors;
use self::page::Refusal;
use self::payload::Payloads;
pub use self::payload::Private;
use crate::storage::OperatorStorage;
use crate::topology::Topology;

/// How long a page may take, the database's time included.
const DEADLINE: Duration = Duration::from_secs(15);

/// A dashboard about one database, to be set and then made a router.
#[must_use = "a dashboard does nothing until `router()`"]
pub struct Dashboard<DB: OperatorStorage> {
    shared: Shared<DB>,
}

struct Shared<DB: OperatorStorage> {
    pool: Pool<DB>,
    doors: Doors,
    payloads: Payloads,
    topology: Vec<Topology>,
    charts: charts::Known,
    depths: overview::Known,
}

/// What every handler has.
struct App<DB: OperatorStorage>(Arc<Shared<DB>>);

impl<DB: OperatorStorage> Clone for App<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<DB: OperatorStorage> fmt::Debug for Dashboard<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("doors", &self.shared.doors)
            .field("payloads", &self.shared.payloads)
            .finish_non_exhaustive()
    }
}

impl<DB: OperatorStorage> Dashboard<DB> {
    /// A dashboard on a pool of the service's, which it takes one connection of at a time for each page.
    pub fn new(pool: Pool<DB>) -> Self {
        Self {
            shared: Shared {
                pool,
                doors: Doors::default(),
                payloads: Payloads::default(),
                topology: Vec::new(),
                charts: charts::Known::default(),
                depths: overview::Known::default(),
            },
        }
    }

    /// Who has this token may look: `Authorization: Bearer TOKEN`, or the log-in form. Make it long and random, such as
    /// `openssl rand -hex 32`; a new one ends all log-ins. An empty one is none.
    pub fn read_token(mut self, token: impl AsRef<str>) -> Self {
        self.shared.doors.read_token(token.as_ref());
        self
    }

    /// Who has this token may requeue and discard, too.
    pub fn write_token(mut self, token: impl AsRef<str>) -> Self {
        self.shared.doors.write_token(token.as_ref());
        self
    }

    /// Whoever reaches the router may look: a layer of the service's own lets nobody through who may not.
    pub fn host_lets_in_readers(mut self) -> Self {
        self.shared.doors.host_reads();
        self
    }

    /// Whoever reaches the router may look, requeue and discard: a layer of the service's own lets nobody through who may
    /// not. To tell readers from writers, mount two dashboards.
    pub fn host_lets_in_writers(mut self) -> Self {
        self.shared.doors.host_writes();
        self
    }

    /// Log-ins work over HTTP without TLS, too: the tokens then travel in the clear. For a loopback address.
    pub fn over_plain_http(mut self) -> Self {
        self.shared.doors.over_plain_http();
        self
    }

    /// Where browsers see it, such as `https://ops.example.org`, behind a proxy that changes the `Host` header: forms are
    /// taken from there alone.
    pub fn origin(mut self, origin: impl AsRef<str>) -> Self {
        self.shared.doors.origin(origin.as_ref());
        self
    }

    /// Shows no payloads and no headers.
    pub fn hide_payloads(mut self) -> Self {
        self.shared.payloads.hide();
        self
    }

    /// Shows no error texts, in which handlers may have repeated what is in an event, and looks for none.
    pub fn hide_errors(mut self) -> Self {
        self.shared.payloads.hide_errors();
        self
    }

    /// Shows of payloads, headers and error texts what this makes of them, and none of one on which it panics. Errors are
    /// looked for as they are stored: where not even that may tell, [`hide_errors`](Self::hide_errors).
    ///
    /// ```no_run
    /// # fn example(pool: sqlx::SqlitePool) {
    /// use distributed_events::dashboard::{Dashboard, Private};
    ///
    /// let dashboard = Dashboard::new(pool).redact(|private| match private {
    ///     Private::Body { event: "customers.registered", .. } => "(personal data)".to_owned(),
    ///     Private::Body { text, .. } => text.to_owned(),
    ///     Private::Header { name: "tenant", value, .. } => value.to_owned(),
    ///     Private::Error { text, .. } => text.lines().next().unwrap_or_default().to_owned(),
    ///     _ => "(redacted)".to_owned(),
    /// });
    /// # }
    /// ```
    pub fn redact(mut self, hook: impl Fn(Private<'_>) -> String + Send + Sync + 'static) -> Self {
        self.shared.payloads.redact(hook);
        self
    }

    /// Topics, subscriptions and events, for the picture: `bus.topology()`. Without it the picture shows what the database
    /// knows: local subscriptions, and what live instances handle.
    pub fn topology(mut self, topology: impl IntoIterator<Item = Topology>) -> Self {
        self.shared.topology = topology.into_iter().collect();
        self
    }

    /// The router, to be nested at any path, or to be served as it is.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(overview::show::<DB>))
            .route("/outbox", get(lists::outbox::<DB>))
            .route("/inbox", get(lists::inbox::<DB>))
            .route("/find", get(lists::find::<DB>))
            .route("/events/{id}", get(event::show::<DB>))
            .route("/work", get(work::show::<DB>))
            .route("/topology", get(topology::show::<DB>))
            .route("/{table}/choose", post(changes::choose::<DB>))
            .route("/{table}/change", post(changes::change::<DB>))
            .route("/login", get(login::show::<DB>).post(login::log_in::<DB>))
            .route("/logout", post(login::log_out::<DB>))
            .fallback(visit::nothing_there)
            .with_state(App(Arc::new(self.shared)))
            .layer(middleware::from_fn(in_time))
            .layer(middleware::map_response(page::guarded))
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => Refusal::Silent.into_response(),
    }
}
