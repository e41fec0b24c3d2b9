//! The HTTP door: management API, REST data plane, health, and AMQP over WebSocket.

mod atom;
mod dates;
mod management;
mod messages;
mod request;
mod tls;
mod websocket;
mod xml;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use tls::{Stream, Tls, TlsError};
pub use websocket::{Bridge, Socket};

use self::request::{Asked, Refused, Reply, reply};
use crate::host::Host;
use crate::model::{EntityPath, Input, Span, Time};
use crate::sas::Authority;

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 2000;
/// Bytes of a request's line and headers.
const HEADERS: usize = 128 * 1024;
/// Between a connection's beginning, or the last answer, and the end of the next request's headers.
const PATIENCE: Duration = Duration::from_secs(120);
/// For answers that are on their way when the emulator stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// The HTTP door of a namespace. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Host,
    authority: Authority,
    namespace: String,
    bridge: Option<Bridge>,
    created: Time,
}

impl Door {
    /// The door to that namespace. Without a bridge there is no AMQP over WebSocket.
    #[must_use]
    pub fn new(host: Host, authority: Authority, namespace: &str, bridge: Option<Bridge>) -> Self {
        let created = host.now();
        Self(Arc::new(Inner { host, authority, namespace: namespace.to_owned(), bridge, created }))
    }

    /// Serves HTTP, and HTTPS where there is a certificate, until the host stops.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.0.host.stopped() => break,
            };
            match accepted {
                Ok((tcp, _)) => {
                    let (door, tls) = (self.clone(), tls.clone());
                    tokio::spawn(async move {
                        door.connection(tcp, tls.as_ref()).await;
                        drop(place);
                    });
                }
                // Out of files, most likely: others must end before this gets better.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        drop(listener);
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        // Whoever is still there then is left to the end of the process.
        let _late = tokio::time::timeout(FAREWELL, places.acquire_many(all)).await;
    }

    async fn connection(&self, tcp: TcpStream, tls: Option<&Tls>) {
        // What goes wrong with a connection is its client's to notice.
        let Ok(stream) = Stream::accept(tcp, tls).await else { return };
        let secure = stream.is_secure();
        let (upgrades, mut upgraded) = tokio::sync::mpsc::channel(1);
        let service = service_fn(|request| {
            let upgrades = upgrades.clone();
            async move { Ok::<_, Infallible>(self.answer(request, secure, upgrades).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.0.host.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let (Ok(()), Some(bridge), Ok(upgrade)) = (served, &self.0.bridge, upgraded.try_recv()) {
            let upgrade: hyper::upgrade::OnUpgrade = upgrade;
            if let Ok(upgraded) = upgrade.await {
                bridge.serve(upgraded).await;
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        secure: bool,
        upgrades: tokio::sync::mpsc::Sender<hyper::upgrade::OnUpgrade>,
    ) -> Reply {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let answered = async {
            let asked = Asked::read(parts, secure)?;
            let path = asked.path.to_ascii_lowercase();
            match path.as_str() {
                "health" if asked.method == Method::GET || asked.method == Method::HEAD => {
                    Ok(reply(StatusCode::OK, "application/json", r#"{"status":"healthy"}"#))
                }
                "health" => Err(Refused::method(&asked, "GET, HEAD")),
                "$servicebus/websocket" => {
                    let (Some(upgrade), true) = (upgrade, self.0.bridge.is_some()) else {
                        let text = "This is for WebSocket alone, and the request is none.";
                        return Err(Refused::new(StatusCode::BAD_REQUEST, text));
                    };
                    let reply = websocket::handshake(&asked)?;
                    // The first upgrade of a connection is its last request.
                    let _sent = upgrades.try_send(upgrade);
                    Ok(reply)
                }
                _ => {
                    self.authorise(&asked)?;
                    if path == "$emulator/server-busy" {
                        return self.server_busy(&asked).await;
                    }
                    match messages::Target::of(&asked)? {
                        Some(target) => messages::answer(&self.0, &asked, target, body).await,
                        None => management::answer(&self.0, &asked, body).await,
                    }
                }
            }
        };
        answered.await.unwrap_or_else(|refused: Refused| {
            let mut reply = refused.reply();
            match refused.status {
                StatusCode::UNAUTHORIZED => {
                    let scheme = HeaderValue::from_static("SharedAccessSignature");
                    reply.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                }
                StatusCode::METHOD_NOT_ALLOWED => {
                    let allowed =
                        refused.text.rsplit("only ").next().unwrap_or_default().trim_end_matches('.');
                    if let Ok(allowed) = HeaderValue::from_str(allowed) {
                        reply.headers_mut().insert(ALLOW, allowed);
                    }
                }
                _ => {}
            }
            reply
        })
    }

    /// `PUT /$emulator/server-busy?seconds=5&entity=orders`: no part of Service Bus, but a way to see what a client does
    /// when Service Bus is busy.
    async fn server_busy(&self, asked: &Asked) -> Result<Reply, Refused> {
        if asked.method != Method::PUT {
            return Err(Refused::method(asked, "PUT"));
        }
        let seconds = asked
            .number("seconds")?
            .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "The query says no `seconds`."))?;
        let entity = asked.query("entity").map(EntityPath::parse).transpose()?;
        let until = self.0.host.now() + Span::seconds(seconds.into());
        self.0.host.apply(Input::InjectServerBusy { entity, until }).await?;
        Ok(reply(StatusCode::OK, "text/plain", ""))
    }

    /// Every token of ours may do everything, so what counts is whether it is for this path.
    fn authorise(&self, asked: &Asked) -> Result<(), Refused> {
        let refused = |text: String| Refused::new(StatusCode::UNAUTHORIZED, text);
        let now = self.0.host.now();
        let check = |token: &str, path: &str| match self.0.authority.check_token(token, now) {
            Err(refusal) => Err(refused(format!("{refusal}."))),
            Ok(grant) if grant.covers(path) => Ok(()),
            Ok(_) => Err(refused(format!("InvalidAudience: the token is not for `{path}`."))),
        };
        match asked.authorization() {
            None if self.0.authority.checks() => {
                return Err(refused(String::from("MissingToken: there is no Authorization header.")));
            }
            token => check(token.unwrap_or_default(), &asked.path)?,
        }
        // The rights on forwarding targets come in headers of their own; our keys have them anyway.
        for header in ["ServiceBusSupplementaryAuthorization", "ServiceBusDlqSupplementaryAuthorization"] {
            if let Some(token) = asked.header(header) {
                let signed = self.0.authority.check_token(token, now);
                signed.map_err(|refusal| refused(format!("{header}: {refusal}.")))?;
            }
        }
        Ok(())
    }
}
