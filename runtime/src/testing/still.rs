//! The scenario's turn.

use std::sync::Arc;
use std::sync::mpsc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// While this lives, nobody else has the turn, and the paused time of tokio stands still, because it does for as long as a
/// blocking task runs: a database answers in real time, and whoever waits for it is not to see a timeout.
#[derive(Debug)]
pub(super) struct Still {
    _task_ends_with_this: mpsc::Sender<()>,
    _turn: OwnedMutexGuard<()>,
}

impl Still {
    pub(super) async fn take(turn: &Arc<Mutex<()>>) -> Self {
        let turn = Arc::clone(turn).lock_owned().await;
        let (sender, receiver) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || receiver.recv());
        Self { _task_ends_with_this: sender, _turn: turn }
    }
}
