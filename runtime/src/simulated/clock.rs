//! The database's clock of a simulation: it follows the simulated time, and can jump.

use std::cell::Cell;
use std::marker::PhantomData;

use tokio::time::Instant;

thread_local! {
    static CLOCK: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

/// While this lives, statements on its thread read its time instead of their database's.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Belongs to its thread.
    _stays: PhantomData<*const ()>,
}

impl Clock {
    /// Begins with the real time, so that a handler that asks its own clock is not years apart.
    pub(crate) fn start() -> Self {
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        CLOCK.set(Some((Instant::now(), i64::try_from(real.as_millis()).unwrap_or_default())));
        Self { _stays: PhantomData }
    }

    /// Jumps by so many milliseconds.
    pub(crate) fn jump(&self, by: i64) {
        if let Some((started, offset)) = CLOCK.get() {
            CLOCK.set(Some((started, offset + by)));
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        CLOCK.set(None);
    }
}

/// The simulated time in milliseconds since 1970, if there is one.
pub(crate) fn now() -> Option<i64> {
    let (started, offset) = CLOCK.get()?;
    let passed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    Some(offset.saturating_add(passed))
}
