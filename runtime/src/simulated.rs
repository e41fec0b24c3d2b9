//! What a simulation decides for the loops of a process: when each may use its database, how long that takes, and what
//! goes wrong. Elsewhere, and without the features `testing` and `sqlite`, nothing of it is there.

#[cfg(all(feature = "testing", feature = "sqlite"))]
mod clock;
#[cfg(all(feature = "testing", feature = "sqlite"))]
mod process;
#[cfg(all(feature = "testing", feature = "sqlite"))]
mod task;
#[cfg(all(feature = "testing", feature = "sqlite"))]
mod turn;

#[cfg(all(feature = "testing", feature = "sqlite"))]
pub(crate) use self::{
    clock::{Clock, now},
    process::{Life, Process, Shared},
    task::task,
    turn::{Held, Turn},
};

/// Stands for what a simulation would decide.
#[cfg(not(all(feature = "testing", feature = "sqlite")))]
mod nothing {
    use std::future::Future;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Life;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Turn;

    pub(crate) const fn task<F: Future>(future: F) -> F {
        future
    }

    impl Life {
        pub(crate) const fn current() -> Self {
            Self
        }

        pub(crate) const fn cautious(&self) -> Option<&'static tokio::sync::RwLock<()>> {
            None
        }

        pub(crate) async fn handling(&self) {}

        pub(crate) async fn turn(&self, _writes: bool) -> Result<Turn, sqlx::Error> {
            Ok(Turn)
        }
    }

    impl Turn {
        pub(crate) const fn is_simulated(&self) -> bool {
            false
        }

        pub(crate) fn say(&self, _text: impl FnOnce() -> String) {}

        pub(crate) async fn handled(&self) {}

        pub(crate) async fn go_on(&self) {}

        pub(crate) async fn committed(&self) -> Result<(), sqlx::Error> {
            Ok(())
        }
    }
}

#[cfg(not(all(feature = "testing", feature = "sqlite")))]
pub(crate) use nothing::{Life, Turn, task};
