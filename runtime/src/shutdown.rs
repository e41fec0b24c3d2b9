//! Stopping: a signal that every loop watches, and the future that most programs stop on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Completes at Ctrl-C or, on Unix, at SIGTERM: what `run_until` is usually given.
///
/// Where signals can't be watched it never completes, and says so in the log.
///
/// ```no_run
/// # async fn example(bus: distributed_events::EventBus<sqlx::Sqlite>) -> Result<(), distributed_events::BusError> {
/// bus.run_until(distributed_events::shutdown_signal()).await
/// # }
/// ```
pub async fn shutdown_signal() {
    if let Err(error) = wait_for_signal().await {
        tracing::error!(%error, "signals can't be watched: this process has to be stopped in another way");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn wait_for_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// What a loop watches: once stopped it stays stopped.
#[derive(Clone, Debug)]
pub struct Shutdown {
    signal: Arc<Signal>,
}

/// The other end: stops the loops, also when it is dropped.
#[derive(Debug)]
pub struct ShutdownHandle {
    signal: Arc<Signal>,
}

/// Wakes those who wait in the order in which they began to, so that a simulation can repeat it.
#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    waiting: Notify,
}

impl Shutdown {
    /// A signal and the handle that gives it.
    #[must_use]
    pub fn new() -> (ShutdownHandle, Self) {
        let signal = Arc::<Signal>::default();
        (ShutdownHandle { signal: Arc::clone(&signal) }, Self { signal })
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.signal.is_given.load(Ordering::Acquire)
    }

    /// Completes when the signal is given; at once if it was.
    pub async fn stopped(&mut self) {
        let waiting = self.signal.waiting.notified();
        tokio::pin!(waiting);
        // Waits from here on, so that a signal after the look is not missed.
        waiting.as_mut().enable();
        if !self.is_stopped() {
            waiting.await;
        }
    }

    /// Runs a future until it completes (`Some`) or the signal is given (`None`).
    pub(crate) async fn or_stop<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            output = future => Some(output),
        }
    }
}

impl ShutdownHandle {
    /// Gives the signal. Giving it twice is harmless.
    pub fn stop(&self) {
        self.signal.is_given.store(true, Ordering::Release);
        self.signal.waiting.notify_waiters();
    }
}

impl Drop for ShutdownHandle {
    /// Nobody is left to give the signal.
    fn drop(&mut self) {
        self.stop();
    }
}
