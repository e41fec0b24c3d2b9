//! Conditions of Service Bus, and what each means to the relays.

use std::time::Duration;

use fe2o3_amqp::link::LinkStateError;
use fe2o3_amqp::types::definitions::{Error as AmqpError, ErrorCondition};
use fe2o3_amqp::types::primitives::Symbol;

use crate::broker::namespace::wait_of;
use crate::broker::{ReceiveError, SendError, Source};

const SERVER_BUSY: &str = "com.microsoft:server-busy";

/// What went wrong on a link or connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The service said so.
    #[error("{condition}: {description}")]
    Said { condition: String, description: String },
    /// The connection or the link ended without a word.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer to {what} within {} s", waited.as_secs())]
    NoAnswer { what: &'static str, waited: Duration },
}

impl Trouble {
    pub(super) fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }

    /// What the service said; the text is its own and holds no secret of ours.
    pub(super) fn said(error: &AmqpError) -> Self {
        Self::Said {
            condition: condition_of(error),
            description: error.description.clone().unwrap_or_else(|| "no description".to_owned()),
        }
    }

    /// Its condition, where the service named one.
    pub(super) fn condition(&self) -> Option<&str> {
        match self {
            Self::Said { condition, .. } => Some(condition),
            _ => None,
        }
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self.condition(), Some("amqp:unauthorized-access" | "com.microsoft:auth-failed"))
    }

    /// The entity is of the other kind: with sessions, or without.
    pub(super) fn is_other_kind(&self) -> bool {
        matches!(self.condition(), Some("amqp:not-allowed" | "com.microsoft:session-filter-required"))
    }

    /// The link had nothing to do for ten minutes (Service Bus, "AMQP errors"), or the service makes room for an update: no
    /// trouble, a new one will do.
    pub(super) fn is_idle_detach(&self) -> bool {
        matches!(self.condition(), Some("amqp:link:detach-forced"))
    }

    /// The namespace takes less than is asked of it.
    pub(super) fn is_busy(&self) -> bool {
        self.condition() == Some(SERVER_BUSY)
    }

    /// No session was free in time.
    pub(super) fn is_no_session(&self) -> bool {
        matches!(self.condition(), Some("com.microsoft:timeout" | "com.microsoft:session-cannot-be-locked"))
    }

    /// What it means to a batch of so many events for a topic.
    pub(super) fn sending(self, topic: &str, advice: &str) -> SendError {
        let Self::Said { condition, description } = &self else {
            return SendError::Unavailable { reason: self.to_string(), retry_after: None };
        };
        match condition.as_str() {
            // All or none of a batch is taken, so the relay looks for the one that can't be by splitting it.
            "amqp:link:message-size-exceeded"
            | "com.microsoft:argument-error"
            | "com.microsoft:argument-out-of-range"
            | "amqp:invalid-field"
            | "amqp:decode-error"
            | "amqp:not-allowed" => SendError::BatchTooBig(self.to_string()),
            "amqp:not-found"
            | "amqp:resource-deleted"
            | "com.microsoft:entity-disabled"
            | "amqp:resource-limit-exceeded"
            | "amqp:unauthorized-access"
            | "com.microsoft:auth-failed" => {
                SendError::Topic { topic: topic.to_owned(), reason: format!("{self}{advice}") }
            }
            SERVER_BUSY => {
                SendError::Unavailable { retry_after: Some(wait_of(description)), reason: self.to_string() }
            }
            _ => SendError::Unavailable { reason: self.to_string(), retry_after: None },
        }
    }

    /// What it means to a receiver.
    pub(super) fn receiving(self, source: &Source, advice: &str) -> ReceiveError {
        match self.condition() {
            Some(
                "amqp:not-found"
                | "amqp:resource-deleted"
                | "com.microsoft:entity-disabled"
                | "amqp:unauthorized-access"
                | "com.microsoft:auth-failed"
                | "amqp:not-allowed",
            ) => ReceiveError::Entity {
                topic: source.topic.clone(),
                subscription: source.subscription.clone(),
                reason: format!("{self}{advice}"),
            },
            _ => ReceiveError::Unavailable(self.to_string()),
        }
    }
}

fn condition_of(error: &AmqpError) -> String {
    let symbol = match &error.condition {
        ErrorCondition::AmqpError(condition) => Symbol::from(condition),
        ErrorCondition::ConnectionError(condition) => Symbol::from(condition),
        ErrorCondition::SessionError(condition) => Symbol::from(condition),
        ErrorCondition::LinkError(condition) => Symbol::from(condition),
        ErrorCondition::Custom(condition) => condition.clone(),
    };
    symbol.into_inner()
}

/// What ended a link.
pub(super) fn said_by_link(error: LinkStateError) -> Trouble {
    match error {
        LinkStateError::RemoteClosedWithError(error) | LinkStateError::RemoteDetachedWithError(error) => {
            Trouble::said(&error)
        }
        other => Trouble::broken(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(condition: &str, description: &str) -> Trouble {
        Trouble::Said { condition: condition.to_owned(), description: description.to_owned() }
    }

    #[test]
    fn a_busy_service_is_left_alone_for_as_long_as_it_asks() {
        let error =
            said("com.microsoft:server-busy", "Please wait 7 seconds and try again.").sending("t", "");
        let SendError::Unavailable { retry_after, .. } = error else { panic!("{error:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_missing_entity_holds_the_topic_and_says_what_to_do() {
        let error = said("amqp:not-found", "gone").sending("orders", ": create it");
        assert_eq!(error.to_string(), "topic orders can't take events: amqp:not-found: gone: create it");
    }

    #[test]
    fn what_is_wrong_with_one_event_is_looked_for_by_splitting() {
        let error = said("com.microsoft:argument-error", "a session id of 200 characters").sending("t", "");
        assert!(matches!(error, SendError::BatchTooBig(_)), "{error:?}");
    }
}
