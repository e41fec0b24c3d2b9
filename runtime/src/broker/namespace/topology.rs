//! A namespace's topology: looked at, created where it is missing, and never changed otherwise.

mod look;

use self::look::Look;
use super::credential::Credential;
use super::endpoint::Endpoint;
use crate::topology::{Topology, TopologyReport};

/// Why a topology could not be looked at or created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Names that Service Bus doesn't take, all of them: rename what each sentence says.
    #[error("Service Bus can't have this topology:{}", problems.iter().map(|problem| format!("\n  - {problem}")).collect::<String>())]
    Names {
        /// The problems, a sentence each.
        problems: Vec<String>,
    },
    /// This identity may not manage the namespace: give it the role *Azure Service Bus Data Owner*, or a key with the
    /// claim *Manage*; or deploy the topology by other means, such as
    /// [`to_bicep`](crate::topology::Topology::to_bicep).
    #[error(
        "{endpoint} lets this identity manage nothing: {reason}; it needs the role Azure Service Bus Data Owner, or a \
         key with the claim Manage"
    )]
    Unauthorized {
        /// The management API's address.
        endpoint: String,
        /// What was said.
        reason: String,
    },
    /// The management API can't be reached, or is too busy: try again later; or name it with
    /// `management_endpoint` if it is elsewhere.
    #[error("{endpoint} is not available: {reason}")]
    Unavailable {
        /// The management API's address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Service Bus refuses: do what it says, for example about the limits of its tier.
    #[error("{asked} was refused with status {status}: {reason}")]
    Refused {
        /// What was asked.
        asked: String,
        /// The HTTP status.
        status: u16,
        /// What the service says.
        reason: String,
    },
    /// What answers is not Service Bus's management API: look whether the address is right, and what stands between.
    #[error("the answer to {asked} can't be read: {reason}")]
    Answer {
        /// What was asked.
        asked: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// What may be done about what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Mode {
    Check,
    Create,
    RemoveSurplus,
}

/// Goes through a topology, and does what the mode says about it.
pub(in crate::broker) async fn look(
    endpoint: &Endpoint,
    credential: Credential,
    topology: &Topology,
    mode: Mode,
) -> Result<TopologyReport, TopologyError> {
    let problems = topology.problems();
    if !problems.is_empty() {
        return Err(TopologyError::Names { problems });
    }
    Look::new(endpoint, credential, mode)?.at(topology).await
}
