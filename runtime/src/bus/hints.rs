//! Passing hints on to the other processes of a database, and hearing theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{Inner, Lane};
use crate::chance;
use crate::pulse::Role;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, Hint, SHARDS, Storage, StorageError};
use crate::wake::{self, Committed};

/// However much is committed, others are told so seldom: one hint stands for all before it.
const APART: Duration = Duration::from_millis(1);

pub(super) async fn run<DB: Storage>(bus: Arc<Inner<DB>>, connections: Connections<DB>, mut stop: Shutdown) {
    let me = chance::id();
    let both = async {
        tokio::join!(tell(&bus, &connections, me), async {
            if bus.listens {
                listen(&connections, me).await;
            }
        })
    };
    stop.or_stop(both).await;
}

async fn tell<DB: Storage>(bus: &Inner<DB>, connections: &Connections<DB>, me: Uuid) {
    let mut news = wake::on_committed();
    let mut told = news.borrow_and_update().clone();
    let mut backoff = new_backoff();
    // The sender lives as long as the process.
    while news.changed().await.is_ok() {
        let now = news.borrow_and_update().clone();
        let began = Instant::now();
        let hints = bus.concern_others(&told, &now);
        told = now;
        if hints.is_empty() {
            continue;
        }
        match tell_once(connections, me, &hints).await {
            Ok(()) => {
                backoff.reset();
                tokio::time::sleep_until(began + APART).await;
            }
            // What was not told is found by polling.
            Err(error) => {
                tracing::debug!(%error, "other processes could not be told of new events");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn tell_once<DB: Storage>(
    connections: &Connections<DB>,
    me: Uuid,
    hints: &[Hint],
) -> Result<(), StorageError> {
    DB::notify(&mut *connections.write().await?, me, hints).await
}

impl<DB: Storage> Inner<DB> {
    /// Which hints say what is new to others: not what this bus alone has the leases to deal with.
    fn concern_others(&self, told: &Committed, now: &Committed) -> Vec<Hint> {
        let leads = |lane: &Lane| self.pulse.holds(&Role::OutboxRelay(lane.name.clone())) > 0;
        let processes =
            |name: &String| self.pulse.holds(&Role::Processor(name.clone())) == usize::from(SHARDS);
        let mut hints = Vec::new();
        if told.published != now.published && !self.lanes.iter().all(leads) {
            hints.push(Hint::Published);
        }
        let is_new = |(name, count): &(&String, &u64)| told.received.get(*name) != Some(*count);
        if !now.received.iter().filter(is_new).all(|(name, _)| processes(name)) {
            hints.push(Hint::Received);
        }
        hints
    }
}

async fn listen<DB: Storage>(connections: &Connections<DB>, me: Uuid) {
    let mut backoff = new_backoff();
    loop {
        let began = Instant::now();
        if let Err(error) = DB::listen(connections.pool(), me, wake::heard).await {
            tracing::debug!(%error, "the hints of other processes are not heard for a while");
        }
        if began.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

fn new_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(30))
}
