//! What a handler answers when it can't handle an event.

use std::error::Error;
use std::fmt;
use std::time::Duration;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a handler did not handle its event, and what is to become of it.
///
/// Any error turns into "try again" through `?`: everything that converts into `Box<dyn Error + Send + Sync>`, so also
/// `anyhow::Error`, `String` and `&str`. The other outcomes are asked for by name.
///
/// ```
/// use distributed_events::HandlerError;
/// use std::time::Duration;
///
/// fn charge(cents: i64, bank_is_open: bool) -> Result<(), HandlerError> {
///     let cents = u32::try_from(cents).map_err(HandlerError::dead_letter)?; // never again
///     if !bank_is_open {
///         return Err(HandlerError::retry_after(Duration::from_secs(60))); // later, no attempt counted
///     }
///     if cents > 100_000 {
///         return Err("the bank said no".into()); // again, with backoff
///     }
///     Ok(())
/// }
/// # assert!(charge(-1, true).is_err());
/// ```
///
/// It does not implement [`std::error::Error`], which is what lets every error convert into it.
#[derive(Debug)]
pub struct HandlerError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Failed(BoxError),
    RetryAfter(Duration),
    DeadLetter(BoxError),
    TimedOut(Duration),
    Panicked(String),
}

impl HandlerError {
    /// Try again after this time without counting an attempt.
    #[must_use]
    pub const fn retry_after(delay: Duration) -> Self {
        Self { kind: Kind::RetryAfter(delay) }
    }

    /// Never try again: the event ends `dead` with this reason, and can be requeued by an operator.
    #[must_use]
    pub fn dead_letter(reason: impl Into<BoxError>) -> Self {
        Self { kind: Kind::DeadLetter(reason.into()) }
    }

    pub(crate) const fn timed_out(after: Duration) -> Self {
        Self { kind: Kind::TimedOut(after) }
    }

    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a value that is not text".to_owned());
        Self { kind: Kind::Panicked(text) }
    }

    /// Its text, also where the user's error panics while it is shown.
    pub(crate) fn text(&self) -> String {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.to_string()))
            .unwrap_or_else(|_panic| "an error that panicked when it was shown".to_owned())
    }

    /// How long to wait before the next attempt, where the handler said so.
    #[must_use]
    pub const fn delay(&self) -> Option<Duration> {
        match self.kind {
            Kind::RetryAfter(delay) => Some(delay),
            _ => None,
        }
    }

    /// Whether the event is not to be tried again.
    #[must_use]
    pub const fn is_dead_letter(&self) -> bool {
        matches!(self.kind, Kind::DeadLetter(_))
    }

    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::TimedOut(_))
    }

    /// The database error at the root of it, if there is one: what decides whether an attempt is counted.
    pub(crate) fn database_error(&self) -> Option<&sqlx::Error> {
        let (Kind::Failed(error) | Kind::DeadLetter(error)) = &self.kind else {
            return None;
        };
        let mut source: Option<&(dyn Error + 'static)> = Some(error.as_ref());
        while let Some(error) = source {
            if let Some(found) = error.downcast_ref::<sqlx::Error>() {
                return Some(found);
            }
            source = error.source();
        }
        None
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { kind: Kind::Failed(error.into()) }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Failed(error) | Kind::DeadLetter(error) => f.write_str(&with_causes(error.as_ref())),
            Kind::RetryAfter(delay) => write!(f, "the handler asked to be run again after {delay:?}"),
            Kind::TimedOut(after) => write!(f, "the handler did not return within {after:?}"),
            Kind::Panicked(text) => write!(f, "the handler panicked: {text}"),
        }
    }
}

/// An error with its causes. A wrapper often repeats its cause's text; saying it twice helps nobody.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut last = error.to_string();
    let mut text = last.clone();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !last.contains(&said) {
            text = format!("{text}: {said}");
            last = said;
        }
        source = cause.source();
    }
    text
}
