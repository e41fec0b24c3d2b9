//! What a simulation decides for the loops of a process: when each may use its database, how long that takes, and what
//! goes wrong. Elsewhere, and without the feature `testing`, nothing of it is there.

#[cfg(feature = "testing")]
mod clock;
#[cfg(feature = "testing")]
mod process;
#[cfg(feature = "testing")]
mod task;
#[cfg(feature = "testing")]
mod turn;

#[cfg(feature = "testing")]
pub(crate) use self::{
    clock::{Clock, now},
    process::{Life, Process, Shared},
    task::task,
    turn::{Held, Turn},
};

/// Stands for what a simulation would decide.
#[cfg(not(feature = "testing"))]
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

        pub(crate) async fn handling(&self) {}

        pub(crate) async fn turn(&self, _writes: bool) -> Result<Turn, sqlx::Error> {
            Ok(Turn)
        }
    }

    impl Turn {
        pub(crate) fn say(&self, _text: impl FnOnce() -> String) {}

        pub(crate) async fn handled(&self) {}

        pub(crate) async fn go_on(&self) {}

        pub(crate) async fn committed(&self) -> Result<(), sqlx::Error> {
            Ok(())
        }
    }
}

#[cfg(not(feature = "testing"))]
pub(crate) use nothing::{Life, Turn, task};
