//! Hints between the loops of one process: something may be there to do. Polling is the truth; a hint only saves the wait.

use std::cell::Cell;
use std::future::Future;
use std::sync::LazyLock;

use tokio::sync::watch;

static PUBLISHED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));
static RECEIVED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

tokio::task_local! {
    static NOTED: Cell<bool>;
}

/// Runs a future and tells whether it has published: its transaction is ours to commit, and the exact wake is due then.
pub(crate) async fn noting<F: Future>(future: F) -> (F::Output, bool) {
    NOTED
        .scope(Cell::new(false), async {
            let output = future.await;
            (output, NOTED.with(Cell::get))
        })
        .await
}

/// An event was written to an outbox; its transaction may not be committed yet.
pub(crate) fn published() {
    let _outside = NOTED.try_with(|noted| noted.set(true));
    PUBLISHED.send_modify(|count| *count = count.wrapping_add(1));
}

/// Events were committed to an inbox.
pub(crate) fn received() {
    RECEIVED.send_modify(|count| *count = count.wrapping_add(1));
}

/// What an outbox relay watches.
pub(crate) fn on_published() -> watch::Receiver<u64> {
    PUBLISHED.subscribe()
}

/// What an inbox processor watches.
pub(crate) fn on_received() -> watch::Receiver<u64> {
    RECEIVED.subscribe()
}
