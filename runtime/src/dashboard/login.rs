//! The way in, and out.

use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::App;
use super::access::Presented;
use super::page::{Place, Refusal};
use super::visit::Visit;
use crate::storage::OperatorStorage;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// A page of the dashboard, or its overview: never another site's.
fn own(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    if is_path && next.chars().all(|char| char.is_ascii_graphic()) { next } else { "/" }
}

async fn come<DB: OperatorStorage>(parts: &Parts, app: &App<DB>) -> Result<Visit, Refusal> {
    if !app.0.doors.has_tokens() {
        return Err(Refusal::NoDoor);
    }
    Visit::of_anybody(parts, app).await.map_err(|_| Refusal::WrongToken)
}

pub(super) async fn show<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    Query(asked): Query<Asked>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let visit = come(&parts, &app).await?;
    Ok(visit.page("Log in", Place::None, &form(&visit, own(&asked.next), None)))
}

pub(super) async fn log_in<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    parts: Parts,
    Form(given): Form<Given>,
) -> Result<Response, Refusal> {
    let visit = come(&parts, &app).await?;
    let doors = &app.0.doors;
    if !doors.is_own_origin(&visit.headers) {
        return Err(Refusal::Foreign);
    }
    let next = own(&given.next);
    match doors.present(given.token.trim()).await {
        Presented::Right(access) => {
            let mut response = visit.go(next).into_response();
            if let Some(cookie) = doors.begin(access, &visit.base) {
                set(response.headers_mut(), &cookie);
            }
            Ok(response)
        }
        Presented::Wrong => {
            let main = form(&visit, next, Some("This token is not known."));
            let mut response = visit.page("Log in", Place::None, &main);
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            Ok(response)
        }
        Presented::TooMany => Err(Refusal::TooMany),
    }
}

#[derive(Deserialize)]
pub(super) struct Leaving {
    #[serde(default)]
    form: String,
}

pub(super) async fn log_out<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    visit: Visit,
    Form(leaving): Form<Leaving>,
) -> Result<Response, Refusal> {
    if !app.0.doors.is_own_form(&visit.headers, &visit.visitor, &leaving.form) {
        return Err(Refusal::Foreign);
    }
    let mut response = visit.go("/login").into_response();
    set(response.headers_mut(), &app.0.doors.end(&visit.base));
    Ok(response)
}

fn set(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        headers.append(SET_COOKIE, cookie);
    }
}

fn form(visit: &Visit, next: &str, problem: Option<&str>) -> Markup {
    html! {
        div.panel.login {
            h1 { "Log in" }
            p.sub { "With the token for reading, or the one for changes." }
            @if let Some(problem) = problem { p.note.bad role="alert" #problem { (problem) } }
            form method="post" action=(format!("{}/login", visit.base)) {
                input type="hidden" name="next" value=(next);
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="current-password"
                    aria-describedby=[problem.map(|_| "problem")] autofocus;
                div.actions { button.primary type="submit" { "Log in" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn a_log_in_leads_to_nobody_elses_page() {
        assert_eq!(own("/outbox?state=dead&error=a%20b"), "/outbox?state=dead&error=a%20b");
        for elsewhere in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "outbox", "/a b"]
        {
            assert_eq!(own(elsewhere), "/", "{elsewhere}");
        }
    }
}
