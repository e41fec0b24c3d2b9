//! What a client asks for, and the two kinds of answers.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::xml::Writer;
use crate::model::Fault;

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// What comes with a body that is too large is read up to this much more, so that the client sees the answer and not a
/// broken connection.
const DRAINED: usize = 16 * 1024 * 1024;

/// Between two pieces of a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a URL's path can't have. Names may have most of it.
const UNSPEAKABLE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// A request without its body.
pub(super) struct Asked {
    pub(super) method: Method,
    /// The path, decoded, without the slash it begins with.
    pub(super) path: String,
    query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// `http://host:port/`, as the client sees this door.
    base: String,
    /// `host:port`
    pub(super) host: String,
}

impl Asked {
    pub(super) fn read(parts: Parts, secure: bool) -> Result<Self, Refused> {
        let wrong = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
        let path = decode(parts.uri.path()).ok_or_else(|| wrong("The request's path is not UTF-8."))?;
        let mut query = Vec::new();
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(&value.replace('+', " ")).ok_or_else(|| wrong("The query is not UTF-8."))?;
            query.push((decode(name).unwrap_or_default(), value));
        }
        let host = match parts.headers.get(HOST).map(HeaderValue::to_str) {
            Some(Ok(host)) => host.to_owned(),
            _ => parts.uri.authority().map_or_else(|| String::from("localhost"), ToString::to_string),
        };
        let base = format!("{}://{host}/", if secure { "https" } else { "http" });
        let path = path.trim_matches('/').to_owned();
        Ok(Self { method: parts.method, path, query, headers: parts.headers, base, host })
    }

    /// The URL of something here, as this client reaches it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}", self.base, utf8_percent_encode(path, UNSPEAKABLE))
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let same = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.query.iter().find(same).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }

    /// A number in the query.
    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, Refused> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let wrong =
            |_| Refused::new(StatusCode::BAD_REQUEST, format!("{name}: `{text}` is not a whole number."));
        text.parse().map(Some).map_err(wrong)
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The whole body, where it has at most that many bytes; none where it has more.
pub(super) async fn body(mut incoming: Incoming, most: usize) -> Result<Option<Bytes>, Refused> {
    if incoming.size_hint().lower() > (most + DRAINED) as u64 {
        return Ok(None);
    }
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "The body stopped coming.");
    let mut read = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = tokio::time::timeout(PATIENCE, incoming.frame()).await.map_err(late)? {
        let frame = frame.map_err(|error| {
            Refused::new(StatusCode::BAD_REQUEST, format!("The body broke off: {error}."))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        seen += data.len();
        if seen > most + DRAINED {
            return Ok(None);
        }
        if seen > most {
            read = BytesMut::new();
        } else {
            read.extend_from_slice(data);
        }
    }
    Ok((seen <= most).then(|| read.freeze()))
}

/// A request that isn't done, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(super) fn method(asked: &Asked, allowed: &str) -> Self {
        let text = format!("{} is not possible here, only {allowed}.", asked.method);
        Self::new(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// In the form that the management clients look for.
    pub(super) fn reply(&self) -> Reply {
        let mut writer = Writer::default();
        writer.element("Error", &[], |writer| {
            writer.shown("Code", self.status.as_u16());
            writer.text("Detail", &[], &self.text);
        });
        reply(self.status, "application/xml; charset=utf-8", writer.finish())
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, fault.text)
    }
}

pub(super) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *reply.body_mut() = Full::new(body.into());
    reply
}

pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}
