//! A request: who it is, and where the dashboard is mounted.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::App;
use super::access::{Access, Presented, Visitor};
use super::page::{self, Place, Refusal};
use super::words::query;
use crate::storage::OperatorStorage;

/// A request of somebody who may look, or who comes to log in.
#[derive(Debug)]
pub(super) struct Visit {
    /// The path that all links begin with: where the router is nested, without a slash at its end.
    pub(super) base: String,
    /// This page, without the base.
    pub(super) here: String,
    pub(super) headers: HeaderMap,
    pub(super) visitor: Visitor,
    /// Whether anybody can change anything here.
    pub(super) can_write: bool,
    pub(super) has_tokens: bool,
}

impl Visit {
    /// Without asking who it is: for the way in.
    pub(super) async fn of_anybody<DB: OperatorStorage>(
        parts: &Parts,
        app: &App<DB>,
    ) -> Result<Self, Presented> {
        let inner = parts.uri.path();
        let whole = parts.extensions.get::<OriginalUri>().map_or(inner, |uri| uri.0.path());
        let base =
            if inner == "/" { whole.trim_end_matches('/') } else { whole.strip_suffix(inner).unwrap_or("") };
        let here = parts.uri.path_and_query().map_or(inner, |here| here.as_str());
        let doors = &app.0.doors;
        Ok(Self {
            visitor: doors.visitor(&parts.headers, base).await?,
            base: base.to_owned(),
            here: here.to_owned(),
            headers: parts.headers.clone(),
            can_write: doors.can_write(),
            has_tokens: doors.has_tokens(),
        })
    }

    pub(super) const fn may_write(&self) -> bool {
        matches!(self.visitor.access, Access::Write)
    }

    /// A page for them.
    pub(super) fn page(&self, title: &str, place: Place, main: &Markup) -> Response {
        let mut response = page::whole(self, title, place, main).into_response();
        if let Some(cookie) =
            self.visitor.cookie.as_deref().and_then(|cookie| HeaderValue::from_str(cookie).ok())
        {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }

    /// Another page of the dashboard.
    pub(super) fn go(&self, place: &str) -> Redirect {
        Redirect::to(&format!("{}{place}", self.base))
    }
}

impl<DB: OperatorStorage> FromRequestParts<App<DB>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App<DB>) -> Result<Self, Response> {
        let visit = match Self::of_anybody(parts, app).await {
            Ok(visit) => visit,
            Err(Presented::TooMany) => return Err(Refusal::TooMany.into_response()),
            Err(_) => return Err(Refusal::WrongToken.into_response()),
        };
        if visit.visitor.access >= Access::Read {
            return Ok(visit);
        }
        if !visit.has_tokens {
            return Err(Refusal::NoDoor.into_response());
        }
        // Programs are told what they lack; people are shown the way in.
        let html = parts.headers.get("accept").and_then(|accept| accept.to_str().ok());
        if parts.method == axum::http::Method::GET && html.is_some_and(|accept| accept.contains("text/html"))
        {
            return Err(visit.go(&format!("/login?{}", query(&[("next", &visit.here)]))).into_response());
        }
        Err(Refusal::NoToken.into_response())
    }
}

pub(super) async fn nothing_there(visit: Visit) -> Response {
    let main = html! {
        h1 { "There is no such page" }
        p { a href=(format!("{}/", visit.base)) { "To the overview" } }
    };
    let mut response = visit.page("No such page", Place::None, &main);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
