//! The one turn of a world: who has it may use a database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::process::{Process, connection_lost};
use super::task::at_work;
use crate::chance::seeded::Numbers;

/// A process's turn, until all clones of it are gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    holding: Option<Arc<Holding>>,
}

#[derive(Debug)]
struct Holding {
    process: Arc<Process>,
    held: Mutex<Option<Held>>,
    /// The right to write to the database, which is kept where the turn is not.
    _writing: Option<OwnedMutexGuard<()>>,
}

/// The turn itself.
#[derive(Debug)]
pub(crate) struct Held {
    _turn: OwnedMutexGuard<()>,
}

impl Held {
    pub(crate) async fn take(turn: &Arc<tokio::sync::Mutex<()>>) -> Self {
        Self::new(Arc::clone(turn).lock_owned().await)
    }

    fn new(turn: OwnedMutexGuard<()>) -> Self {
        at_work(true);
        Self { _turn: turn }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        at_work(false);
    }
}

impl Turn {
    pub(super) async fn take(process: &Arc<Process>, writing: Option<OwnedMutexGuard<()>>) -> Self {
        let holding = Holding { process: Arc::clone(process), held: Mutex::default(), _writing: writing };
        let turn = Self { holding: Some(Arc::new(holding)) };
        turn.go_on().await;
        turn
    }

    /// Has the turn again where it was given up.
    pub(crate) async fn go_on(&self) {
        let Some(holding) = &self.holding else { return };
        loop {
            holding.process.thaw().await;
            if holding.held().is_some() {
                return;
            }
            let turn = Arc::clone(&holding.process.shared().turn).lock_owned().await;
            if holding.process.is_up() {
                *holding.held() = Some(Held::new(turn));
            }
        }
    }

    pub(crate) const fn is_simulated(&self) -> bool {
        self.holding.is_some()
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if let Some(holding) = &self.holding {
            holding.process.say(text);
        }
    }

    /// The handlers have returned: they may have been slow, or the process ends here.
    pub(crate) async fn handled(&self) {
        let Some(holding) = &self.holding else { return };
        let mut draw = holding.process.draw("handler");
        let time = match draw.below(100) {
            0..88 => 0,
            88..97 => draw.below(2_000),
            _ => draw.below(12_000),
        };
        if time > 0 && holding.process.shared().is_troubled() {
            holding.process.say(|| format!("the handler takes {time} ms"));
            // Others may read meanwhile; nobody may write.
            *holding.held() = None;
            tokio::time::sleep(Duration::from_millis(time)).await;
            self.go_on().await;
        }
        self.may_end(&mut draw, "before its commit").await;
    }

    /// The transaction is committed; its process may end here, or not hear of it.
    pub(crate) async fn committed(&self) -> Result<(), sqlx::Error> {
        let Some(holding) = &self.holding else { return Ok(()) };
        let mut draw = holding.process.draw("commit");
        self.may_end(&mut draw, "after its commit").await;
        if holding.process.shared().is_troubled() && draw.happens(2) {
            holding.process.say(|| "does not hear that it has committed".to_owned());
            return Err(connection_lost());
        }
        holding.process.say(|| "has committed".to_owned());
        Ok(())
    }

    /// The process may die here, or may be frozen; others go on then.
    async fn may_end(&self, draw: &mut Numbers, whence: &str) {
        let Some(holding) = &self.holding else { return };
        if holding.process.shared().is_troubled() && draw.happens(2) {
            holding.process.kill(whence);
        }
        if !holding.process.is_up() {
            *holding.held() = None;
            self.go_on().await;
        }
    }
}

impl Holding {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
