//! What came of one run of a handler.

use std::time::Duration;

use crate::inbox::once::Ran;

/// The wait after the database's trouble, which is no fault of the handler's.
const TROUBLE_WAIT: Duration = Duration::from_millis(200);

/// What came of one run of a handler: [`TestBus::handle`](super::TestBus::handle) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Its transaction is committed, and what it has published with it.
    Processed,
    /// Its transaction is rolled back, and the event would be handled again.
    Retried {
        /// In so long, by the handler's own word or its retry policy.
        after: Duration,
        /// Whether this run counts as an attempt: not where the handler named the time, or the database was in trouble.
        counted: bool,
        /// The error, as it would stand in the row.
        reason: String,
    },
    /// Its transaction is rolled back, and the event would end dead: the handler has said so, or was out of attempts.
    Dead {
        /// The error, as it would stand in the row.
        reason: String,
    },
    /// The subscription has processed an event with this id before: the handler was not run.
    Duplicate,
}

impl Outcome {
    pub(super) fn of(ran: Ran, again: Option<(Duration, bool)>) -> Self {
        match (ran, again) {
            (Ran::Committed, _) => Self::Processed,
            (Ran::Failed(error), Some((after, counted))) => {
                Self::Retried { after, counted, reason: error.text() }
            }
            (Ran::Failed(error), None) => Self::Dead { reason: error.text() },
            (Ran::Ended(reason), _) => Self::Dead { reason },
            (Ran::Trouble(reason), _) => Self::Retried { after: TROUBLE_WAIT, counted: false, reason },
            (Ran::Stale | Ran::Held, _) => Self::Duplicate,
        }
    }

    /// Asserts that the event was processed.
    ///
    /// # Panics
    /// When it was not: with what came of it instead.
    #[track_caller]
    pub fn assert_processed(&self) {
        assert!(*self == Self::Processed, "the event was not processed: {}", self.told());
    }

    /// Asserts that the event would be handled again, for a reason with this text in it.
    ///
    /// # Panics
    /// When it would not: with what came of it instead.
    #[track_caller]
    pub fn assert_retried(&self, reason: &str) {
        let is_so = matches!(self, Self::Retried { reason: found, .. } if found.contains(reason));
        assert!(is_so, "the event is not to be tried again because of `{reason}`: {}", self.told());
    }

    /// Asserts that the event would end dead, for a reason with this text in it.
    ///
    /// # Panics
    /// When it would not: with what came of it instead.
    #[track_caller]
    pub fn assert_dead(&self, reason: &str) {
        let is_so = matches!(self, Self::Dead { reason: found } if found.contains(reason));
        assert!(is_so, "the event is not dead because of `{reason}`: {}", self.told());
    }

    fn told(&self) -> String {
        match self {
            Self::Processed => "it was processed".to_owned(),
            Self::Retried { after, reason, .. } => format!("it is tried again in {after:.1?}: {reason}"),
            Self::Dead { reason } => format!("it is dead: {reason}"),
            Self::Duplicate => "it was processed before, under the same id".to_owned(),
        }
    }
}
