//! A connection: what comes in, what goes out, and when it ends.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::access::Access;
use super::encode::{self, Composite};
use super::error::Error;
use super::events::{Event, What};
use super::frame::{self, Kind};
use super::greeting::{Greeting, greet};
use super::link::{Inlet, LinkId, Outlet};
use super::performative::{Open, Performative};
use super::session::Session;
use crate::host::Submitted;
use crate::model::{Fault, Output};

/// What is read at once.
const CHUNK: usize = 64 * 1024;
/// A peer may not ask for smaller frames.
const SMALLEST_FRAME: u32 = 512;

/// What goes wrong, and how far it reaches.
#[derive(Debug)]
pub(super) enum Trouble {
    Connection(Error),
    Session(Error),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Connection(error.into())
    }
}

/// An input's result, once it is durable.
type Durable = Pin<Box<dyn Future<Output = Result<Output, Fault>> + Send>>;

/// An open connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) access: Access,
    pub(super) out: BytesMut,
    /// Where the heads of messages are written, before it is known how they are cut into frames.
    pub(super) heads: BytesMut,
    /// Bytes of a frame that the client takes.
    pub(super) frame: usize,
    pub(super) sessions: HashMap<u16, Session>,
    pub(super) inlets: HashMap<LinkId, Inlet>,
    pub(super) outlets: HashMap<LinkId, Outlet>,
    /// Of all links.
    pub(super) unfinished: usize,
    /// Bytes of answers that wait for their links.
    pub(super) answers: usize,
    /// Requests whose answers are being found.
    pub(super) asked: usize,
    /// Links with something to do.
    pub(super) hot: VecDeque<LinkId>,
    /// Senders whose credit is running out.
    pub(super) thirsty: Vec<LinkId>,
    /// Inputs that aren't durable yet, in order.
    pub(super) waiting: VecDeque<(What, Submitted)>,
    pub(super) events: FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>,
    /// The oldest of these, while it is waited for.
    pub(super) oldest: Option<(What, Durable)>,
    pub(super) ids: u64,
    pub(super) begun: Instant,
    pub(super) opened: Option<Instant>,
    /// Half of the client's idle time.
    pub(super) keep_alive: Option<Duration>,
    pub(super) heard: Instant,
    pub(super) spoke: Instant,
    /// Since when output waits without any being taken.
    pub(super) stalled: Option<Instant>,
    /// When the last link went, or the connection began.
    pub(super) linkless: Instant,
}

/// Serves a connection, of which something may have come already, to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    mut inbox: BytesMut,
) {
    inbox.reserve(CHUNK);
    let greeted = timeout(shared.limits.greeting, greet(shared, &mut stream, &mut inbox)).await;
    let known = match greeted {
        Ok(Ok(Greeting::Anonymous)) => false,
        Ok(Ok(Greeting::Known)) => true,
        // What there was to say was said, or nobody listens.
        _ => {
            let _closed = timeout(shared.limits.farewell, leave(&mut stream)).await;
            return;
        }
    };
    let mut connection = Connection::new(shared, known);
    let error = connection.run(&mut stream, inbox).await;
    // Its links go first: what they held is free before anybody hears that they are gone.
    connection.inlets.clear();
    connection.release_all();
    if let Some(error) = error {
        connection.say_close(error.as_ref());
        let _closed = timeout(shared.limits.farewell, async {
            stream.write_all(&connection.out).await?;
            leave(&mut stream).await
        })
        .await;
    }
}

/// Says goodbye and waits until the client goes too, so that it reads what was said.
async fn leave(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

impl Connection {
    fn new(shared: &Arc<Shared>, known: bool) -> Self {
        let now = Instant::now();
        Self {
            shared: Arc::clone(shared),
            access: Access::new(known || !shared.authority.checks()),
            out: BytesMut::new(),
            heads: BytesMut::with_capacity(CHUNK),
            frame: SMALLEST_FRAME as usize,
            sessions: HashMap::new(),
            inlets: HashMap::new(),
            outlets: HashMap::new(),
            unfinished: 0,
            answers: 0,
            asked: 0,
            hot: VecDeque::new(),
            thirsty: Vec::new(),
            waiting: VecDeque::new(),
            events: FuturesUnordered::new(),
            oldest: None,
            ids: 0,
            begun: now,
            opened: None,
            keep_alive: None,
            heard: now,
            spoke: now,
            stalled: None,
            linkless: now,
        }
    }

    /// Serves until the end: with an error or none to say, or with nobody left to say it to.
    async fn run(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Send + Unpin),
        mut inbox: BytesMut,
    ) -> Option<Option<Error>> {
        let host = self.shared.host.clone();
        let mut stopped = std::pin::pin!(host.stopped());
        let mut ticks = self.ticks();
        let (mut reader, mut writer) = tokio::io::split(stream);
        loop {
            if let Err(ended) = self.frames(&mut inbox) {
                return Some(ended);
            }
            self.settle_up();
            if self.oldest.is_none()
                && let Some((what, submitted)) = self.waiting.pop_front()
            {
                self.oldest = Some((what, Box::pin(submitted.durable())));
            }
            let may_read = self.has_room();
            let durable = async {
                match &mut self.oldest {
                    Some((_, submitted)) => submitted.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reader.read_buf(&mut inbox), if may_read => match read {
                    Ok(length) if length > 0 => self.heard = Instant::now(),
                    _ => return None,
                },
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => match written {
                    Ok(length) if length > 0 => {
                        self.spoke = Instant::now();
                        self.stalled = None;
                        // A socket takes them at once, something around it may hold them back.
                        if self.out.is_empty() && writer.flush().await.is_err() {
                            return None;
                        }
                    }
                    _ => return None,
                },
                result = durable => {
                    if let Some((what, _)) = self.oldest.take() {
                        self.finished(what, result);
                    }
                },
                Some(event) = self.events.next(), if !self.events.is_empty() => self.happened(event),
                _ = ticks.tick() => {
                    if let Err(ended) = self.timers() {
                        return ended;
                    }
                    if ticks.period() != self.tick() {
                        ticks = self.ticks();
                    }
                },
                () = &mut stopped => {
                    let text = "The emulator is stopping.";
                    return Some(Some(Error::new("amqp:connection:forced", text)));
                },
            }
        }
    }

    /// Whether there is room for what another frame may lead to.
    fn has_room(&self) -> bool {
        let limits = &self.shared.limits;
        self.out.len() < 2 * limits.output
            && self.waiting.len() < limits.waiting
            && self.asked < limits.requests
    }

    /// Takes whole frames out of what came, as long as there is room.
    fn frames(&mut self, inbox: &mut BytesMut) -> Result<(), Option<Error>> {
        let largest = self.shared.limits.frame;
        let mut taken = 0;
        let ended = loop {
            if !self.has_room() {
                break Ok(());
            }
            let frame = match frame::first(&inbox[taken..], largest) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(Some(error)),
            };
            taken += frame.length;
            if frame.kind != Kind::Amqp {
                break Err(Some(Error::new("amqp:connection:framing-error", "SASL is over")));
            }
            match frame::performative(frame.body) {
                Ok(None) => {}
                Ok(Some((Performative::Close, _))) => break Err(None),
                Ok(Some((performative, payload))) => {
                    if let Err(error) = self.performed(frame.channel, performative, payload) {
                        break Err(Some(error));
                    }
                }
                Err(error) => break Err(Some(error)),
            }
        };
        inbox.advance(taken);
        inbox.reserve(CHUNK.saturating_sub(inbox.len()).max(1024));
        ended
    }

    fn performed(&mut self, channel: u16, performative: Performative, payload: &[u8]) -> Result<(), Error> {
        if let Performative::Open(open) = performative {
            return self.open(&open);
        }
        if self.opened.is_none() {
            return Err(Error::new("amqp:illegal-state", "a connection begins with open"));
        }
        if let Performative::Begin(begin) = &performative {
            return self.begin(channel, begin);
        }
        let Some(session) = self.sessions.get_mut(&channel) else {
            let text = format!("there is no session on the channel {channel}");
            return Err(Error::new("amqp:illegal-state", text));
        };
        if let Performative::End = performative {
            if !session.ended {
                session.end(&mut self.out, None);
            }
            self.drop_session(channel);
            return Ok(());
        }
        if session.ended {
            return Ok(());
        }
        let done = match performative {
            Performative::Attach(attach) => self.attach(channel, *attach),
            Performative::Flow(flow) => self.flow(channel, &flow),
            Performative::Transfer(transfer) => self.transfer(channel, &transfer, payload),
            Performative::Disposition(disposition) => self.disposition(channel, &disposition),
            Performative::Detach(detach) => self.detached(channel, &detach),
            // The others were told apart above.
            _ => Ok(()),
        };
        match done {
            Err(Trouble::Session(error)) => {
                self.end_session(channel, &error);
                Ok(())
            }
            Err(Trouble::Connection(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    fn open(&mut self, open: &Open) -> Result<(), Error> {
        if self.opened.is_some() {
            return Err(Error::new("amqp:illegal-state", "the connection is open already"));
        }
        self.opened = Some(Instant::now());
        let largest = open.max_frame_size.unwrap_or(u32::MAX).clamp(SMALLEST_FRAME, self.shared.limits.frame);
        self.frame = largest as usize;
        self.keep_alive = open
            .idle_time_out
            .filter(|milliseconds| *milliseconds > 0)
            .map(|milliseconds| Duration::from_millis(milliseconds.into()) / 2);
        self.say_open();
        Ok(())
    }

    fn say_open(&mut self) {
        let limits = &self.shared.limits;
        let idle = u32::try_from(limits.idle.as_millis()).unwrap_or(u32::MAX);
        let channel_max = limits.channel_max.to_be_bytes();
        let out = &mut self.out;
        let frame = frame::Open::new(out, Kind::Amqp, 0);
        Composite::new(out, 0x10)
            .field(out, |out| encode::string(out, "servicebus-emulator"))
            .null(out)
            .uint(out, limits.frame)
            .field(out, |out| out.extend_from_slice(&[0x60, channel_max[0], channel_max[1]]))
            .uint(out, idle)
            .close(out);
        frame.close(out);
    }

    fn say_close(&mut self, error: Option<&Error>) {
        // Nobody may close what isn't open.
        if self.opened.is_none() {
            self.say_open();
        }
        let out = &mut self.out;
        let frame = frame::Open::new(out, Kind::Amqp, 0);
        let mut fields = Composite::new(out, 0x18);
        Error::field(error, &mut fields, out);
        fields.close(out);
        frame.close(out);
    }
}
