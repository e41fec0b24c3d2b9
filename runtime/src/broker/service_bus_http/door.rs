//! The HTTP client that `azure_messaging_servicebus` is given. It pools its connections and waits no longer than it may,
//! says who asks in its own way, and lets nothing fail once a message is locked: that crate reads an answer strictly, and
//! what it can't read stays locked until it is delivered again.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azure_core_0_21::error::{Error, ErrorKind};
use azure_core_0_21::headers::Headers;
use azure_core_0_21::{Body, BytesStream, Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, RETRY_AFTER};
use tokio::sync::Mutex;

use super::refusal::Refusal;
use crate::broker::namespace::{Credential, Endpoint, HttpClient, authorization, http_client};
use crate::error::with_causes;

/// What `brokerproperties` is called from here on: under its own name the crate would read it, and mostly fail. No header
/// of the answer can have this one, since it is no name to HTTP.
pub(super) const BROKER_PROPERTIES: &str = "(brokerproperties)";
/// Bytes of an answer: the largest message of the Premium tier, and what is around it.
const LARGEST: usize = 101 * 1024 * 1024;

/// The way to a namespace over HTTPS.
pub(super) struct Door {
    client: HttpClient,
    /// `https://host[:port]`
    base: String,
    audience: String,
    credential: Credential,
    patience: Duration,
    /// Counts the keys that were refused, so that many requests at once refuse one key once.
    refused: AtomicU64,
    changing: Mutex<()>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(endpoint: &Endpoint, credential: Credential) -> Result<Self, String> {
        Ok(Self {
            client: http_client(endpoint)?,
            base: endpoint.http_base(),
            audience: format!("https://{}/", endpoint.host),
            credential,
            patience: endpoint.patience,
            refused: AtomicU64::new(0),
            changing: Mutex::new(()),
        })
    }

    async fn ask(&self, request: &Request) -> Result<Response, Refusal> {
        let waits = request.url().query_pairs().find(|(name, _)| name == "timeout");
        let waits = waits.and_then(|(_, seconds)| seconds.parse().ok()).unwrap_or(0);
        let limit = self.patience + Duration::from_secs(waits);
        let keys = self.refused.load(Ordering::Acquire);
        let answer = self.ask_within(limit, request).await;
        let Err(Refusal::Said { status: 401, .. }) = &answer else { return answer };
        self.change_key(keys).await;
        self.ask_within(limit, request).await
    }

    async fn ask_within(&self, limit: Duration, request: &Request) -> Result<Response, Refusal> {
        let asked = tokio::time::timeout(limit, self.ask_once(request)).await;
        asked.unwrap_or_else(|_| Err(Refusal::NoAnswer(format!("no answer within {} s", limit.as_secs()))))
    }

    /// Another key may be right, if nobody has changed it meanwhile.
    async fn change_key(&self, known: u64) {
        let _changing = self.changing.lock().await;
        if self.refused.load(Ordering::Acquire) == known {
            self.credential.refused().await;
            self.refused.fetch_add(1, Ordering::Release);
        }
    }

    async fn ask_once(&self, request: &Request) -> Result<Response, Refusal> {
        // The crate knows one host only, and signs for a URL with its query.
        let token = authorization(&self.credential, &self.audience).await;
        let token = token.map_err(|error| Refusal::NoAnswer(error.to_string()))?;
        let url = format!("{}{}", self.base, request.path_and_query());
        let mut asked = hyper::Request::builder().method(request.method().as_ref()).uri(&url);
        for (name, value) in request.headers().iter() {
            if name.as_str() != AUTHORIZATION.as_str() {
                asked = asked.header(name.as_str(), value.as_str());
            }
        }
        let Body::Bytes(body) = request.body() else {
            return Err(Refusal::NoAnswer("a body that streams".to_owned()));
        };
        let asked = asked.header(AUTHORIZATION, token).body(Full::new(body.clone()));
        let asked = asked.map_err(|error| Refusal::NoAnswer(format!("{url} can't be asked: {error}")))?;
        let response = self.client.request(asked).await;
        let response = response.map_err(|error| Refusal::NoAnswer(with_causes(&error)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body =
            body.map_err(|error| Refusal::NoAnswer(format!("the answer broke off: {error}")))?.to_bytes();
        let retry_after = || head.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
        match StatusCode::try_from(head.status.as_u16()) {
            Ok(status) if status.is_success() => {
                Ok(Response::new(status, headers(&head.headers), text(&body)))
            }
            _ => Err(Refusal::said(head.status.as_u16(), &body, retry_after().map(Duration::from_secs))),
        }
    }
}

/// Values that are no text are shown as far as they are.
fn headers(head: &hyper::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in head {
        let name = if name == "brokerproperties" { BROKER_PROPERTIES } else { name.as_str() };
        headers.insert(name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    headers
}

/// As base64: the crate wants text, and a body may be anything.
fn text(body: &[u8]) -> Pin<Box<BytesStream>> {
    Box::pin(BytesStream::new(STANDARD.encode(body)))
}

impl azure_core_0_21::HttpClient for Door {
    // Written out, as `async_trait` would.
    fn execute_request<'a, 'b, 'all>(
        &'a self,
        request: &'b Request,
    ) -> Pin<Box<dyn Future<Output = azure_core_0_21::Result<Response>> + Send + 'all>>
    where
        'a: 'all,
        'b: 'all,
        Self: 'all,
    {
        Box::pin(async move { self.ask(request).await.map_err(|refusal| Error::new(ErrorKind::Io, refusal)) })
    }
}
