//! Hints between the loops of one process, and what other processes on its databases are to hear: something may be there to
//! do. Polling is the truth; a hint only saves the wait.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;

use tokio::sync::watch;

static PUBLISHED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));
static RECEIVED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));
static COMMITTED: LazyLock<watch::Sender<Committed>> =
    LazyLock::new(|| watch::Sender::new(Committed::default()));

tokio::task_local! {
    static NOTED: Cell<bool>;
}

/// What may be there to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// An outbox has a new event.
    Published,
    /// An inbox has a new event.
    Received,
}

/// How often this process has committed something that others may wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) published: u64,
    /// For each subscription.
    pub(crate) received: BTreeMap<String, u64>,
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

/// An event was written to an outbox; its transaction may not be committed yet, so that it is no news to others.
pub(crate) fn published() {
    let _outside = NOTED.try_with(|noted| noted.set(true));
    heard(Hint::Published);
}

/// Events were committed to an outbox by this process. Its own loops are woken last: on a runtime's thread, what was woken
/// last runs first.
pub(crate) fn committed() {
    COMMITTED.send_modify(|committed| committed.published = committed.published.wrapping_add(1));
    heard(Hint::Published);
}

/// Events were committed to a subscription's inbox by this process.
pub(crate) fn received(subscription: &str) {
    COMMITTED.send_modify(|committed| {
        let count = committed.received.entry(subscription.to_owned()).or_default();
        *count = count.wrapping_add(1);
    });
    heard(Hint::Received);
}

/// A hint for this process's own loops, as another one gave it.
pub(crate) fn heard(hint: Hint) {
    #[cfg(feature = "testing")]
    if crate::chance::seeded::is_on() {
        return simulated::heard(hint);
    }
    let loops = match hint {
        Hint::Published => &PUBLISHED,
        Hint::Received => &RECEIVED,
    };
    loops.send_modify(|count| *count = count.wrapping_add(1));
}

/// What an outbox relay watches.
pub(crate) fn on_published() -> watch::Receiver<u64> {
    #[cfg(feature = "testing")]
    if crate::chance::seeded::is_on() {
        return simulated::on(Hint::Published);
    }
    PUBLISHED.subscribe()
}

/// What an inbox processor watches.
pub(crate) fn on_received() -> watch::Receiver<u64> {
    #[cfg(feature = "testing")]
    if crate::chance::seeded::is_on() {
        return simulated::on(Hint::Received);
    }
    RECEIVED.subscribe()
}

/// What is to be passed on to other processes.
pub(crate) fn on_committed() -> watch::Receiver<Committed> {
    COMMITTED.subscribe()
}

/// The hints of a simulation: those of its thread alone, told to the loops in the order of their coming, so that the same
/// seed gives the same run; and every second one gets lost on the way, as between two processes.
#[cfg(feature = "testing")]
mod simulated {
    use std::cell::RefCell;

    use tokio::sync::watch;

    use super::Hint;
    use crate::chance;

    thread_local! {
        static LOOPS: RefCell<Vec<(Hint, watch::Sender<u64>)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn on(hint: Hint) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(0);
        LOOPS.with_borrow_mut(|loops| {
            loops.retain(|(_, other)| !other.is_closed());
            loops.push((hint, sender));
        });
        receiver
    }

    pub(super) fn heard(hint: Hint) {
        LOOPS.with_borrow(|loops| {
            for (_, sender) in loops.iter().filter(|(of, sender)| *of == hint && !sender.is_closed()) {
                if chance::unit() < 0.5 {
                    sender.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
        });
    }
}
