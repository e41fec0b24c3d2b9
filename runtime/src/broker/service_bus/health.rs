//! Whether a connection is alive, known from its byte stream: whoever waits for an answer on a dead one needn't wait long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::condition::Trouble;
use super::stream::Stream;

/// How long the AMQP library may take to tell, in words better than ours, that its connection has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The health of one connection. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Health {
    gone: watch::Receiver<bool>,
    /// Said by whoever met trouble that only a new connection mends.
    broken: Arc<AtomicBool>,
    patience: Duration,
}

impl Health {
    /// Watches a stream.
    pub(super) fn of(stream: Box<dyn Stream>, patience: Duration) -> (Self, Watched) {
        let (gone, watching) = watch::channel(false);
        let health = Self { gone: watching, broken: Arc::default(), patience };
        (health, Watched { stream, gone })
    }

    /// Nothing more can be had of this connection.
    pub(super) fn is_over(&self) -> bool {
        *self.gone.borrow() || self.broken.load(Ordering::Relaxed)
    }

    /// Nothing more is to be expected of this connection.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Completes when the stream has ended.
    pub(super) async fn ended(&self) {
        let mut gone = self.gone.clone();
        let _dropped = gone.wait_for(|gone| *gone).await;
    }

    /// Awaits an answer; without one in time, or on a stream that has ended, the connection is given up.
    pub(super) async fn answer<T>(
        &self,
        what: &'static str,
        asking: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        self.answer_after(Duration::ZERO, what, asking).await
    }

    /// The same where the other side was asked to take its time first.
    pub(super) async fn answer_after<T>(
        &self,
        wait: Duration,
        what: &'static str,
        asking: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let waited = self.patience + wait;
        let ended = async {
            self.ended().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let trouble = tokio::select! {
            biased;
            answer = asking => return answer,
            () = ended => Trouble::Broken("the connection has ended".to_owned()),
            () = tokio::time::sleep(waited) => Trouble::NoAnswer { what, waited },
        };
        self.give_up();
        Err(trouble)
    }
}

/// A stream whose end is told.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    gone: watch::Sender<bool>,
}

impl Watched {
    fn seen<T>(&self, polled: &Poll<io::Result<T>>) {
        if matches!(polled, Poll::Ready(Err(_))) {
            self.gone.send_replace(true);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gone.send_replace(true);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.seen(&polled);
        if room && matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before {
            self.gone.send_replace(true);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.seen(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.seen(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
