//! What the model refuses, in the words of both protocols.

use serde::{Deserialize, Serialize};

/// The AMQP error condition of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is its symbol, which stands below")]
pub enum Condition {
    ArgumentError,
    ArgumentOutOfRange,
    EntityAlreadyExists,
    EntityDisabled,
    InternalError,
    InvalidField,
    MessageLockLost,
    MessageNotFound,
    MessageSizeExceeded,
    NotAllowed,
    NotFound,
    ResourceLimitExceeded,
    ServerBusy,
    SessionCannotBeLocked,
    SessionLockLost,
    Timeout,
    UnauthorizedAccess,
}

impl Condition {
    /// The symbol on the wire.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::ArgumentError => "com.microsoft:argument-error",
            Self::ArgumentOutOfRange => "com.microsoft:argument-out-of-range",
            Self::EntityAlreadyExists => "com.microsoft:entity-already-exists",
            Self::EntityDisabled => "com.microsoft:entity-disabled",
            Self::InternalError => "amqp:internal-error",
            Self::InvalidField => "amqp:invalid-field",
            Self::MessageLockLost => "com.microsoft:message-lock-lost",
            Self::MessageNotFound => "com.microsoft:message-not-found",
            Self::MessageSizeExceeded => "amqp:link:message-size-exceeded",
            Self::NotAllowed => "amqp:not-allowed",
            Self::NotFound => "amqp:not-found",
            Self::ResourceLimitExceeded => "amqp:resource-limit-exceeded",
            Self::ServerBusy => "com.microsoft:server-busy",
            Self::SessionCannotBeLocked => "com.microsoft:session-cannot-be-locked",
            Self::SessionLockLost => "com.microsoft:session-lock-lost",
            Self::Timeout => "com.microsoft:timeout",
            Self::UnauthorizedAccess => "amqp:unauthorized-access",
        }
    }

    /// The HTTP status that says the same, also used as `statusCode` of `$management`.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::ArgumentError | Self::ArgumentOutOfRange | Self::InvalidField | Self::NotAllowed => 400,
            Self::UnauthorizedAccess => 401,
            Self::EntityDisabled | Self::MessageSizeExceeded | Self::ResourceLimitExceeded => 403,
            Self::MessageNotFound | Self::NotFound => 404,
            Self::Timeout => 408,
            Self::EntityAlreadyExists | Self::SessionCannotBeLocked => 409,
            Self::MessageLockLost | Self::SessionLockLost => 410,
            Self::InternalError => 500,
            Self::ServerBusy => 503,
        }
    }
}

/// A refusal. The model is unchanged by the input that got it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct Fault {
    /// For AMQP, and by [`Condition::status`] for HTTP.
    pub condition: Condition,
    /// For people.
    pub text: String,
}

impl Fault {
    /// A refusal.
    pub fn new(condition: Condition, text: impl Into<String>) -> Self {
        Self { condition, text: text.into() }
    }

    /// See [`Condition::status`].
    #[must_use]
    pub fn status(&self) -> u16 {
        self.condition.status()
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(Condition::ArgumentError, text)
    }

    pub(crate) fn not_allowed(text: impl Into<String>) -> Self {
        Self::new(Condition::NotAllowed, text)
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Condition::NotFound, format!("The messaging entity '{what}' could not be found."))
    }

    pub(crate) fn session_lock_lost(session: &str) -> Self {
        Self::new(
            Condition::SessionLockLost,
            format!("The session lock has expired on the session '{session}'. Accept a new session."),
        )
    }

    pub(crate) fn message_lock_lost() -> Self {
        Self::new(
            Condition::MessageLockLost,
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed.",
        )
    }
}
