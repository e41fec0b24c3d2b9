//! The AMQP door: AMQP 1.0 at the level of frames, as Service Bus speaks it.
//!
//! One task serves a connection. It reads frames, gives the host one input after the other without waiting for any of
//! them to become durable, and answers in the same order; what it sends gathers in one buffer, whose size stops it from
//! reading and from delivering when the client doesn't read.

mod access;
mod attach;
mod connection;
mod delivery;
mod detach;
mod encode;
mod error;
mod events;
mod frame;
#[cfg(feature = "__fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod greeting;
mod incoming;
mod link;
mod management;
mod message;
mod nodes;
mod outgoing;
mod performative;
mod read;
mod session;
mod settle;
mod timers;
mod unsettled;
mod value;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::host::Host;
use crate::http::{Bridge, Stream, Tls};
use crate::sas::Authority;

/// What the door allows, and for how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait.
    pub connections: usize,
    /// Bytes of a frame, in both directions.
    pub frame: u32,
    /// The highest channel, so one less than the sessions of a connection.
    pub channel_max: u16,
    /// Links of a connection.
    pub links: usize,
    /// What a sender may send before it hears that it may send more.
    pub credit: u32,
    /// Transfers that a session takes before its client hears that it takes more.
    pub window: u32,
    /// Bytes that may wait for a client that doesn't read; twice that stops reading from it, too.
    pub output: usize,
    /// Bytes of messages that have begun to come and haven't ended, of all links of a connection.
    pub unfinished: usize,
    /// Inputs that may wait for their results.
    pub waiting: usize,
    /// Requests that may wait for their answers.
    pub requests: usize,
    /// Bytes of answers that may wait for their client; further requests are refused then.
    pub answers: usize,
    /// The idle time that is told to clients. One that is silent for twice as long is gone.
    pub idle: Duration,
    /// From a connection's beginning to its `open`.
    pub greeting: Duration,
    /// From `open` to the first token, where tokens are checked.
    pub authorization: Duration,
    /// How long a client may read nothing of what waits for it.
    pub unread: Duration,
    /// How long a link may do nothing.
    pub link_idle: Duration,
    /// How long a connection may be without links.
    pub linkless: Duration,
    /// For the last words of a connection.
    pub farewell: Duration,
}

impl Default for Limits {
    /// Service Bus's own, where they are known.
    fn default() -> Self {
        Self {
            connections: 5000,
            frame: 65_536,
            channel_max: 4999,
            links: 5000,
            credit: 1000,
            // The shortest transfers that are read at once are fewer than half of these.
            window: 5000,
            output: 256 * 1024,
            unfinished: 128 * 1024 * 1024,
            waiting: 4096,
            requests: 32,
            answers: 16 * 1024 * 1024,
            idle: Duration::from_secs(120),
            greeting: Duration::from_secs(60),
            authorization: Duration::from_secs(20),
            unread: Duration::from_secs(60),
            link_idle: Duration::from_secs(600),
            linkless: Duration::from_secs(300),
            farewell: Duration::from_secs(2),
        }
    }
}

/// The AMQP door of a namespace. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: Host,
    authority: Authority,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Door {
    /// The door to that namespace.
    #[must_use]
    pub fn new(host: Host, authority: Authority, limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self(Arc::new(Shared { host, authority, limits, places }))
    }

    /// What serves AMQP over WebSocket.
    #[must_use]
    pub fn bridge(&self) -> Bridge {
        let door = self.clone();
        Bridge::new(move |socket| {
            let door = door.clone();
            async move {
                if let Ok(place) = Arc::clone(&door.0.places).acquire_owned().await {
                    connection::serve(&door.0, socket, BytesMut::new()).await;
                    drop(place);
                }
            }
        })
    }

    /// Serves AMQP, with TLS for those that begin with it where there is a certificate, until the host stops.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>) {
        let shared = &self.0;
        loop {
            let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shared.host.stopped() => break,
            };
            match accepted {
                Ok((tcp, _)) => {
                    let (door, tls) = (self.clone(), tls.clone());
                    tokio::spawn(async move {
                        door.tcp(tcp, tls.as_ref()).await;
                        drop(place);
                    });
                }
                // Out of files, most likely: others must end before this gets better.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        drop(listener);
        let all = u32::try_from(shared.limits.connections).unwrap_or(u32::MAX);
        // Whoever is still there then is left to the end of the process.
        let _late = tokio::time::timeout(shared.limits.farewell * 2, shared.places.acquire_many(all)).await;
    }

    async fn tcp(&self, tcp: TcpStream, tls: Option<&Tls>) {
        let mut inbox = BytesMut::new();
        let accepted = async {
            match (Stream::accept(tcp, tls).await?, tls) {
                (Stream::Plain(mut tcp), Some(tls)) => match greeting::wants_tls(&mut tcp, &mut inbox).await?
                {
                    true => Stream::secure(tcp, tls).await,
                    false => Ok(Stream::Plain(tcp)),
                },
                (stream, _) => Ok(stream),
            }
        };
        // What goes wrong with a connection is its client's to notice.
        if let Ok(Ok(stream)) = timeout(self.0.limits.greeting, accepted).await {
            connection::serve(&self.0, stream, inbox).await;
        }
    }
}
