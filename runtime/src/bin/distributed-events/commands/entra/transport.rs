//! How `azure_identity` asks: by the HTTP client and the TLS that the binary has anyway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind, ResultExt as _};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request, Transport, Url};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::IgnoredAny;

use super::variable;
use crate::failure::with_causes;
use crate::https::{Connector, connector};

const PATIENCE: Duration = Duration::from_secs(15);
/// No answer with a token is longer.
const LONGEST: usize = 64 * 1024;
/// Where a machine's own door is, if not at IMDS: so Azure's other SDKs have it.
const DOOR: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
const IMDS: &str = "169.254.169.254";

#[derive(Debug)]
struct Hyper {
    client: Client<Connector, Full<Bytes>>,
    door: Option<Url>,
}

pub(super) fn transport() -> Result<Transport, String> {
    let door = variable(DOOR).map(|text| {
        let url = text.parse::<Url>().ok().filter(Url::has_host);
        url.ok_or_else(|| format!("the environment variable {DOOR} is no URL"))
    });
    let client = Client::builder(TokioExecutor::new()).build(connector()?);
    Ok(Transport::new(Arc::new(Hyper { client, door: door.transpose()? })))
}

#[async_trait]
impl HttpClient for Hyper {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let url = match &self.door {
            Some(door) if request.url().host_str() == Some(IMDS) => door.join(&request.path_and_query())?,
            _ => request.url().clone(),
        };
        // Of no kind that is tried again below: for IMDS that is over a minute in which nobody hears of it.
        let failed = |reason| Error::with_message(ErrorKind::Other, format!("{}: {reason}", url.authority()));
        let Body::Bytes(body) = request.body() else {
            return Err(failed("a body that streams can't be sent".to_owned()));
        };
        let mut asked = hyper::Request::builder().method(request.method().as_str()).uri(url.as_str());
        for (name, value) in request.headers().iter() {
            asked = asked.header(name.as_str(), value.as_str());
        }
        let asked = asked.body(Full::new(body.clone())).with_kind(ErrorKind::DataConversion)?;
        let answer = async {
            let answer = self.client.request(asked).await.map_err(|error| with_causes(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|error| error.to_string())?;
            Ok((head, body.to_bytes()))
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.unwrap_or_else(|_elapsed| Err("no answer came in time".to_owned()));
        let (head, body) = answer.map_err(failed)?;
        let refused = !head.status.is_success() && request.method() == Method::Post;
        if refused && serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            // A proxy's page, of which `azure_identity` would tell only that it is no JSON.
            return Err(failed(format!("it answers with {}, and not as Entra ID does", head.status)));
        }
        let mut headers = Headers::new();
        for (name, value) in &head.headers {
            headers.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        Ok(AsyncRawResponse::from_bytes(head.status.as_u16().into(), headers, body))
    }
}
