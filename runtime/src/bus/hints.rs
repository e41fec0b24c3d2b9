//! Passing hints on to the other processes of a database, and hearing theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Inner;
use crate::chance;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{Connections, Hint, Storage};
use crate::wake::{self, Committed};

/// However much is committed, others are told so seldom: one hint stands for all before it.
const APART: Duration = Duration::from_millis(1);

pub(super) async fn run<DB: Storage>(bus: Arc<Inner<DB>>, connections: Connections<DB>, mut stop: Shutdown) {
    let me = chance::id();
    let both = async {
        tokio::join!(tell(&connections, me), async {
            if bus.listens {
                listen(&connections, me).await;
            }
        })
    };
    stop.or_stop(both).await;
}

async fn tell<DB: Storage>(connections: &Connections<DB>, me: Uuid) {
    let mut news = wake::on_committed();
    let mut told = *news.borrow_and_update();
    let mut backoff = new_backoff();
    // The sender lives as long as the process.
    while news.changed().await.is_ok() {
        let now = *news.borrow_and_update();
        let began = Instant::now();
        match tell_once(connections, me, told, now).await {
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
        told = now;
    }
}

async fn tell_once<DB: Storage>(
    connections: &Connections<DB>,
    me: Uuid,
    told: Committed,
    now: Committed,
) -> Result<(), crate::storage::StorageError> {
    let mut hints = Vec::with_capacity(2);
    if told.published != now.published {
        hints.push(Hint::Published);
    }
    if told.received != now.received {
        hints.push(Hint::Received);
    }
    DB::notify(&mut *connections.write().await?, me, &hints).await
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
