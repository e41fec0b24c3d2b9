//! A namespace of Azure Service Bus, whatever is spoken to it: where it is, who we are to it, and its management API.

mod attached;
mod busy;
mod connection_string;
mod credential;
mod descriptions;
mod endpoint;
mod http;
mod management;
mod met;
mod secret;
mod topology;
pub(super) mod wire;
mod xml;

pub use connection_string::ServiceBusConfigError;
pub use credential::{KeySource, SharedKey};
pub use topology::TopologyError;

pub(super) use attached::Attached;
pub(super) use busy::wait_of;
#[cfg(all(feature = "entra", feature = "service-bus"))]
pub(super) use connection_string::host_and_port;
pub(super) use connection_string::{ConnectionString, shown};
#[cfg(feature = "service-bus")]
pub(super) use credential::Token;
pub(super) use credential::{Credential, Keys};
pub(super) use endpoint::{Endpoint, certificates};
pub(super) use http::base_of;
#[cfg(feature = "service-bus-http")]
pub(super) use http::{HttpClient, authorization, client as http_client};
#[cfg(feature = "service-bus-http")]
pub(super) use management::detail_of;
pub(super) use met::Met;
pub(super) use topology::{Mode, look};
