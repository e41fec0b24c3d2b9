//! The management API of a namespace: entities and rules, as Atom over HTTPS.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use super::credential::Credential;
use super::endpoint::Endpoint;
use super::http::{self, HttpClient};
use super::topology::TopologyError;
use super::xml::Element;
use crate::error::with_causes;
use crate::retry::Backoff;

/// What Microsoft's clients of the last years speak.
const VERSION: &str = "2021-05";
/// Entries of one page of a list; Service Bus gives no more.
const PAGE: usize = 100;
/// Bytes of an answer: a page of descriptions has a tenth of it.
const LARGEST: usize = 4 * 1024 * 1024;
/// Characters of a refusal's reason that are shown.
const SHOWN: usize = 500;
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'$');

/// A client of a namespace's management API.
#[derive(Debug)]
pub(super) struct Management {
    /// `https://host[:port]`
    base: String,
    audience: String,
    credential: Credential,
    client: HttpClient,
    patience: Duration,
}

/// What became of something that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Created,
    /// It was there before, or somebody else was quicker.
    Exists,
}

impl Management {
    pub(super) fn new(endpoint: &Endpoint, credential: Credential) -> Result<Self, TopologyError> {
        let base = endpoint.http_base();
        let client = http::client(endpoint).map_err(|reason| unavailable(&base, &reason))?;
        Ok(Self {
            audience: format!("https://{}/", endpoint.host),
            credential,
            client,
            patience: endpoint.patience,
            base,
        })
    }

    /// The description at a path, if there is one.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<Element>, TopologyError> {
        let (status, body) = self.ask(&Method::GET, path, "", None).await?;
        match status {
            StatusCode::OK => {
                let entry = self.read(path, &body)?;
                // Service Bus says so of missing topics: with an empty list.
                Ok(entry.child("content").and_then(|content| content.children.first()).cloned())
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(&Method::GET, path, status, &body)),
        }
    }

    /// All entries of a list.
    pub(super) async fn list(&self, path: &Path) -> Result<Vec<Element>, TopologyError> {
        let mut all = Vec::new();
        loop {
            let page = format!("&$skip={}&$top={PAGE}", all.len());
            let (status, body) = self.ask(&Method::GET, path, &page, None).await?;
            if status != StatusCode::OK {
                return Err(self.refused(&Method::GET, path, status, &body));
            }
            let feed = self.read(path, &body)?;
            let before = all.len();
            all.extend(feed.children.into_iter().filter(|child| child.name == "entry"));
            if all.len() - before < PAGE {
                return Ok(all);
            }
        }
    }

    /// Creates what a document describes.
    pub(super) async fn create(&self, path: &Path, document: String) -> Result<Put, TopologyError> {
        let (status, body) = self.ask(&Method::PUT, path, "", Some(Bytes::from(document))).await?;
        match status {
            StatusCode::CREATED | StatusCode::OK => Ok(Put::Created),
            StatusCode::CONFLICT => Ok(Put::Exists),
            _ => Err(self.refused(&Method::PUT, path, status, &body)),
        }
    }

    /// Deletes what is at a path; false where nothing is.
    pub(super) async fn delete(&self, path: &Path) -> Result<bool, TopologyError> {
        let (status, body) = self.ask(&Method::DELETE, path, "", None).await?;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(&Method::DELETE, path, status, &body)),
        }
    }

    /// Asks until there is an answer that stays, for no longer than the endpoint's patience.
    async fn ask(
        &self,
        method: &Method,
        path: &Path,
        query: &str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), TopologyError> {
        let url = format!("{}{path}?api-version={VERSION}{query}", self.base);
        let give_up = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut refused = false;
        loop {
            let asked = tokio::time::timeout_at(give_up, self.ask_once(method, &url, body.clone())).await;
            let seconds = self.patience.as_secs_f64();
            let (reason, asked_wait) = match asked {
                Ok(Ok(answer)) if answer.status == StatusCode::UNAUTHORIZED => {
                    if refused {
                        return Err(self.unauthorized(&answer.body));
                    }
                    // Another key may be right.
                    refused = true;
                    self.credential.refused().await;
                    continue;
                }
                Ok(Ok(answer)) if passes(answer.status) => {
                    (format!("{}: {}", answer.status, detail_of(&answer.body)), answer.retry_after)
                }
                Ok(Ok(answer)) => return Ok((answer.status, answer.body)),
                Ok(Err(Failed::Token(reason))) => {
                    return Err(TopologyError::Unauthorized { endpoint: self.base.clone(), reason });
                }
                Ok(Err(Failed::Connection(reason))) => (reason, None),
                Err(_) => return Err(unavailable(&self.base, &format!("no answer within {seconds} s"))),
            };
            let wait = asked_wait.unwrap_or_default().max(backoff.next());
            if Instant::now() + wait >= give_up {
                return Err(unavailable(&self.base, &reason));
            }
            tracing::warn!(endpoint = %self.base, %reason, ?wait, "the management API is asked again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask_once(&self, method: &Method, url: &str, body: Option<Bytes>) -> Result<Answer, Failed> {
        let token = http::authorization(&self.credential, &self.audience).await;
        let token = token.map_err(|error| Failed::Token(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/atom+xml;type=entry;charset=utf-8")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failed::Connection(format!("{url} can't be asked: {error}")))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| Failed::Connection(with_causes(&error)))?;
        let (status, retry_after) = (response.status(), response.headers().get(RETRY_AFTER).cloned());
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| Failed::Connection(format!("the answer broke off: {error}")))?;
        Ok(Answer { status, body: body.to_bytes(), retry_after: seconds.map(Duration::from_secs) })
    }

    fn read(&self, path: &Path, body: &[u8]) -> Result<Element, TopologyError> {
        Element::parse(body).map_err(|error| TopologyError::Answer {
            asked: format!("GET {}{path}", self.base),
            reason: error,
        })
    }

    fn refused(&self, method: &Method, path: &Path, status: StatusCode, body: &[u8]) -> TopologyError {
        TopologyError::Refused {
            asked: format!("{method} {}{path}", self.base),
            status: status.as_u16(),
            reason: detail_of(body),
        }
    }

    fn unauthorized(&self, body: &[u8]) -> TopologyError {
        TopologyError::Unauthorized { endpoint: self.base.clone(), reason: detail_of(body) }
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
    retry_after: Option<Duration>,
}

enum Failed {
    Token(String),
    Connection(String),
}

fn unavailable(endpoint: &str, reason: &impl ToString) -> TopologyError {
    TopologyError::Unavailable { endpoint: endpoint.to_owned(), reason: reason.to_string() }
}

/// Answers that another try may change.
fn passes(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// What the service says: `<Error><Code>…</Code><Detail>…</Detail></Error>`.
pub(in crate::broker) fn detail_of(body: &[u8]) -> String {
    let detail = Element::parse(body).ok().and_then(|error| error.text_of("Detail").map(str::to_owned));
    let text = detail.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if shown.is_empty() { "no reason given".to_owned() } else { shown }
}

/// The path of something in the API, made of names.
#[derive(Clone, Debug)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn topic(name: &str) -> Self {
        let parts: Vec<_> = name.split('/').map(encoded).collect();
        Self(format!("/{}", parts.join("/")))
    }

    pub(super) fn subscriptions(topic: &str) -> Self {
        Self(format!("{}/subscriptions", Self::topic(topic)))
    }

    pub(super) fn subscription(topic: &str, name: &str) -> Self {
        Self(format!("{}/{}", Self::subscriptions(topic), encoded(name)))
    }

    pub(super) fn rules(topic: &str, subscription: &str) -> Self {
        Self(format!("{}/rules", Self::subscription(topic, subscription)))
    }

    pub(super) fn rule(topic: &str, subscription: &str, name: &str) -> Self {
        Self(format!("{}/{}", Self::rules(topic, subscription), encoded(name)))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, PART).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_of_names() {
        let rule = Path::rule("shop/orders", "billing", "$Default");
        assert_eq!(rule.to_string(), "/shop/orders/subscriptions/billing/rules/$Default");
        assert_eq!(Path::rule("a", "b", "c d?").to_string(), "/a/subscriptions/b/rules/c%20d%3F");
    }

    #[test]
    fn a_refusals_reason_is_what_the_service_says() {
        let said = "<Error><Code>401</Code><Detail>Manage,EntityWrite claims required.</Detail></Error>";
        assert_eq!(detail_of(said.as_bytes()), "Manage,EntityWrite claims required.");
        assert_eq!(detail_of(b"<html>\r\nBad Gateway"), "<html>  Bad Gateway");
        assert_eq!(detail_of(b""), "no reason given");
        assert_eq!(detail_of(&[b'x'; 10_000]).len(), SHOWN);
    }

    #[test]
    fn busy_answers_pass_and_refusals_stay() {
        for status in [429, 408, 500, 502, 503, 504] {
            assert!(passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 201, 400, 401, 403, 404, 409, 501] {
            assert!(!passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    /// What Entra ID gives goes into the header as it is; nothing here speaks to Azure.
    #[cfg(feature = "entra")]
    #[tokio::test]
    async fn an_identity_of_entra_shows_its_token() {
        use std::sync::Arc;

        use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
        use futures_util::future::BoxFuture;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        #[derive(Debug)]
        struct Fake;
        // Written out, as `async_trait` would.
        impl TokenCredential for Fake {
            fn get_token<'s, 'a, 'b, 'c, 'all>(
                &'s self,
                scopes: &'a [&'b str],
                _options: Option<TokenRequestOptions<'c>>,
            ) -> BoxFuture<'all, azure_core::Result<AccessToken>>
            where
                Self: 'all,
                's: 'all,
                'a: 'all,
                'b: 'all,
                'c: 'all,
            {
                let expires = azure_core::time::OffsetDateTime::now_utc() + Duration::from_secs(600);
                let token = AccessToken::new(format!("token-for-{}", scopes.join(" ")), expires);
                Box::pin(std::future::ready(Ok(token)))
            }
        }

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = Endpoint::new("shop.servicebus.windows.net".to_owned(), None, true);
        endpoint.patience = Duration::from_secs(10);
        endpoint.http = Some(format!("http://{}", listener.local_addr().unwrap()));
        let door = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let api = Management::new(&endpoint, Credential::Entra(Arc::new(Fake))).unwrap();
        assert_eq!(api.get(&Path::topic("orders")).await.unwrap(), None);
        let asked = door.await.unwrap();
        let header = "authorization: Bearer token-for-https://servicebus.azure.net//.default\r\n";
        assert!(asked.contains(header), "{asked}");
    }
}
