//! What a request was answered with where it was not done, and what each means to the relays.

use std::time::Duration;

use crate::broker::namespace::{detail_of, wait_of};
use crate::broker::{ReceiveError, SendError, Source};

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The service said so.
    #[error("status {status}: {reason}")]
    Said { status: u16, reason: String, retry_after: Option<Duration> },
    /// It did not answer, or it can't be known whether it has done what was asked.
    #[error("{0}")]
    NoAnswer(String),
}

impl Refusal {
    pub(super) fn said(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        Self::Said { status, reason: detail_of(body), retry_after }
    }

    /// What our own HTTP client gave to the crate, out of the crate's error.
    pub(super) fn of(error: azure_core_0_21::Error) -> Self {
        error.into_downcast::<Self>().unwrap_or_else(|other| Self::NoAnswer(other.to_string()))
    }

    /// The namespace takes less than is asked of it.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Said { status: 429 | 503, .. })
    }

    /// The lock is gone, or was never ours.
    pub(super) fn is_lock_lost(&self) -> bool {
        matches!(self, Self::Said { status: 404 | 410, .. })
    }

    /// The entity hands its messages out by session, which HTTP has no request for.
    pub(super) fn wants_sessions(&self) -> bool {
        matches!(self, Self::Said { status: 400 | 405, reason, .. } if reason.to_ascii_lowercase().contains("session"))
    }

    /// What it means to a batch of events for a topic (rule 24).
    pub(super) fn sending(self, topic: &str, advice: &str) -> SendError {
        let Self::Said { status, reason, retry_after } = &self else {
            return SendError::Unavailable { reason: self.to_string(), retry_after: None };
        };
        match status {
            // All or none of a batch is taken, so the relay looks for the one that can't be by splitting it.
            400 | 413 => SendError::BatchTooBig(self.to_string()),
            403 if speaks_of_a_message(reason) => SendError::BatchTooBig(self.to_string()),
            401 | 403 | 404 | 410 => {
                SendError::Topic { topic: topic.to_owned(), reason: format!("{self}{advice}") }
            }
            429 | 503 => SendError::Unavailable {
                retry_after: Some(retry_after.unwrap_or_else(|| wait_of(reason))),
                reason: self.to_string(),
            },
            _ => SendError::Unavailable { reason: self.to_string(), retry_after: *retry_after },
        }
    }

    /// What it means to a receiver.
    pub(super) fn receiving(self, source: &Source, advice: &str) -> ReceiveError {
        let entity = |reason: String| ReceiveError::Entity {
            topic: source.topic.clone(),
            subscription: source.subscription.clone(),
            reason,
        };
        match &self {
            refusal if refusal.wants_sessions() => entity(format!("{self}; {SESSIONS}")),
            Self::Said { status: 400 | 401 | 403 | 404 | 410, .. } => entity(format!("{self}{advice}")),
            _ => ReceiveError::Unavailable(self.to_string()),
        }
    }
}

/// What to do about sessions.
pub(super) const SESSIONS: &str = "HTTPS can't receive sessions: use the AMQP transport, `ServiceBus` (with \
     `over_web_sockets` where only port 443 is open), or create the subscription without sessions and declare its \
     handlers `unordered`";

/// Status 403 is for two things: "Quota exceeded or message too large". A full topic is no fault of its events, so that
/// only plain words make it theirs.
fn speaks_of_a_message(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    let said = |words: &str| reason.contains(words);
    said("message is too large")
        || said("message too large")
        || said("message size")
        || said("received message") && said("exceeds the limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(status: u16, reason: &str) -> SendError {
        Refusal::said(status, reason.as_bytes(), None).sending("orders", "; look there")
    }

    #[test]
    fn a_full_topic_is_no_fault_of_its_events() {
        let full = sending(403, "The maximum entity size has been reached or exceeded for Topic: 'orders'.");
        assert!(
            matches!(&full, SendError::Topic { reason, .. } if reason.ends_with("; look there")),
            "{full:?}"
        );
        for (status, reason) in [
            (403, "The message is too large"),
            (403, "The received message (size 307722) exceeds the limit (262144) of 'orders'."),
            (413, ""),
            (400, "SessionId is too long"),
        ] {
            assert!(matches!(sending(status, reason), SendError::BatchTooBig(_)), "{status}");
        }
    }

    #[test]
    fn a_busy_service_is_left_alone_for_as_long_as_it_asks() {
        let asked = Refusal::said(503, b"Please wait 4 seconds and try again", Some(Duration::from_secs(9)));
        let wait = |refusal: Refusal| match refusal.sending("t", "") {
            SendError::Unavailable { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(asked), Some(Duration::from_secs(9)), "the header counts");
        assert_eq!(wait(Refusal::said(429, b"Please wait 4 seconds", None)), Some(Duration::from_secs(4)));
        assert_eq!(wait(Refusal::said(500, b"", None)), None, "the lane's own backoff");
        assert_eq!(wait(Refusal::NoAnswer("broken pipe".to_owned())), None);
    }

    #[test]
    fn a_subscription_with_sessions_is_refused_with_the_way_out() {
        let said = "It is not possible for an entity that requires sessions to create a non-sessionful message receiver.";
        let error =
            Refusal::said(400, said.as_bytes(), None).receiving(&Source::new("orders", "billing"), "");
        assert!(error.to_string().contains("over_web_sockets"), "{error}");
    }
}
