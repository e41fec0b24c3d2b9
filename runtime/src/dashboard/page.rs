//! What all pages share: their frame, their headers, and what is said when there is no page.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::access::Access;
use super::visit::Visit;
use crate::storage::StorageError;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Nothing from elsewhere, and of one's own only what is written here.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'; img-src data:",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page's place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Outbox,
    Inbox,
    Work,
    Topology,
    None,
}

const PLACES: [(Place, &str, &str); 5] = [
    (Place::Overview, "/", "Overview"),
    (Place::Outbox, "/outbox", "Outbox"),
    (Place::Inbox, "/inbox", "Inbox"),
    (Place::Work, "/work", "Leases"),
    (Place::Topology, "/topology", "Topology"),
];

/// A page in its frame.
pub(super) fn whole(visit: &Visit, title: &str, place: Place, main: &Markup) -> Html<String> {
    let base = &visit.base;
    let top = html! {
        header.top {
            div {
                a.brand href=(format!("{base}/")) { (mark()) "distributed-events" }
                @if visit.visitor.access >= Access::Read {
                    nav aria-label="Pages" {
                        ul {
                            @for (at, path, name) in PLACES {
                                li { a href=(format!("{base}{path}")) aria-current=[(at == place).then_some("page")] { (name) } }
                            }
                        }
                    }
                    div.who { (who(visit)) }
                }
            }
        }
    };
    frame(title, &top, main)
}

fn who(visit: &Visit) -> Markup {
    html! {
        @if visit.may_write() { span.badge.info { "may change" } }
        @else { span.badge { "read only" } }
        @if !visit.may_write() && visit.has_tokens && visit.can_write {
            a href=(format!("{}/login?{}", visit.base, super::words::query(&[("next", &visit.here)]))) { "Log in to change" }
        }
        @if visit.visitor.logged_in {
            form method="post" action=(format!("{}/logout", visit.base)) {
                input type="hidden" name="form" value=(visit.visitor.form);
                button type="submit" { "Log out" }
            }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg width="22" height="22" viewBox="0 0 22 22" aria-hidden="true" {
            rect x="1" y="4" width="8" height="14" rx="2" fill="none" stroke="currentColor" stroke-width="1.8" {}
            path d="M9 11h9m-3.5-3.5L18 11l-3.5 3.5" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" {}
        }
    }
}

fn frame(title: &str, top: &Markup, main: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · distributed-events" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (top)
                main #main tabindex="-1" { (main) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Html(page.into_string())
}

/// Every answer, whatever it is, says what a browser may do with it.
pub(super) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: with it browsers send forms without saying where they come from.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
    response
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nothing was said of who may come in.
    NoDoor,
    NoToken,
    WrongToken,
    TooMany,
    /// A form of another site's, or of a page that is too old.
    Foreign,
    /// A token for reading is not enough.
    ReadOnly,
    /// What was asked makes no sense.
    Senseless(&'static str),
    /// The database does not answer.
    Silent,
    Database(StorageError),
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, text) = match &self {
            Self::NoDoor => (
                StatusCode::FORBIDDEN,
                "Nobody may look yet",
                "This dashboard has neither a token nor a layer before it that says who may see it: give it one of both \
                 (`Dashboard::read_token`, `Dashboard::host_lets_in_readers`)."
                    .to_owned(),
            ),
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "A token is needed",
                "Send it as `Authorization: Bearer TOKEN`, or log in.".to_owned(),
            ),
            Self::WrongToken => {
                (StatusCode::UNAUTHORIZED, "This token is not known", "Look whether it is the present one.".to_owned())
            }
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong tokens at a time",
                "Try again in a moment.".to_owned(),
            ),
            Self::Foreign => (
                StatusCode::FORBIDDEN,
                "This form was not taken",
                "It comes from another site, or from before the last log-in: nothing was changed. Go back, load the page \
                 again, and send it once more."
                    .to_owned(),
            ),
            Self::ReadOnly => (
                StatusCode::FORBIDDEN,
                "Looking is not changing",
                "This needs the token for changes: nothing was changed.".to_owned(),
            ),
            Self::Senseless(text) => (StatusCode::BAD_REQUEST, "This can't be asked", (*text).to_owned()),
            Self::Silent => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The database does not answer",
                "It took too long. Look at its load and its locks, and try again.".to_owned(),
            ),
            Self::Database(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, "The database refuses, or can't be reached", error.to_string())
            }
        };
        let main = html! {
            h1 { (title) }
            p.break { (text) }
        };
        let mut response = (status, frame(title, &html! {}, &main)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
