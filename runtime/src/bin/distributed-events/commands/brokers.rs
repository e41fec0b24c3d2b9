//! The brokers of lanes, from what the configuration says of them.

use distributed_events::topology::{Topology, TopologyReport};
use distributed_events::{BusBuilder, Storage};

use crate::config::{Access, Identity, Lane, Transport};

#[cfg(any(feature = "service-bus", feature = "service-bus-http"))]
use distributed_events::TopologyError as TopologyTrouble;
/// Without a broker there is nothing that could go wrong with one.
#[cfg(not(any(feature = "service-bus", feature = "service-bus-http")))]
type TopologyTrouble = String;

/// A namespace over the transport that its lane names.
#[derive(Clone, Debug)]
pub(super) enum Namespace {
    #[cfg(feature = "service-bus")]
    Amqp(distributed_events::ServiceBus),
    #[cfg(feature = "service-bus-http")]
    Https(distributed_events::ServiceBusHttp),
}

impl Namespace {
    /// # Errors
    /// With what is wrong with the lane; no secret is repeated.
    pub(super) fn of(lane: &Lane) -> Result<Self, String> {
        let certificates = match &lane.root_certificates {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                format!("[lanes.{}] root_certificates: {} can't be read: {error}", lane.name, path.display())
            })?),
            None => None,
        };
        let certificates = certificates.as_deref();
        let (made, at) = match &lane.access {
            Access::ConnectionString(given) => {
                let text = given.text()?;
                let made = match lane.transport {
                    Transport::Amqp | Transport::WebSockets => amqp(lane, &text, certificates),
                    Transport::Https => https(lane, &text, certificates),
                };
                (made, given.at())
            }
            Access::Identity(identity) => (by_identity(lane, identity, certificates), identity.at.as_str()),
        };
        made.map_err(|problem| format!("{at}: {problem}"))
    }

    pub(super) fn identity(&self) -> String {
        #[cfg(any(feature = "service-bus", feature = "service-bus-http"))]
        use distributed_events::Broker as _;
        match *self {
            #[cfg(feature = "service-bus")]
            Self::Amqp(ref namespace) => namespace.identity(),
            #[cfg(feature = "service-bus-http")]
            Self::Https(ref namespace) => namespace.identity(),
        }
    }

    /// Creates what is missing, or only looks.
    pub(super) async fn topology(
        &self,
        topology: &Topology,
        ensure: bool,
    ) -> Result<TopologyReport, TopologyTrouble> {
        match *self {
            #[cfg(feature = "service-bus")]
            Self::Amqp(ref namespace) if ensure => namespace.ensure_topology(topology).await,
            #[cfg(feature = "service-bus")]
            Self::Amqp(ref namespace) => namespace.check_topology(topology).await,
            #[cfg(feature = "service-bus-http")]
            Self::Https(ref namespace) if ensure => namespace.ensure_topology(topology).await,
            #[cfg(feature = "service-bus-http")]
            Self::Https(ref namespace) => namespace.check_topology(topology).await,
        }
    }

    /// Gives the lane to a bus.
    pub(super) fn carry<DB: Storage>(self, lane: &str, builder: BusBuilder<DB>) -> BusBuilder<DB> {
        match self {
            #[cfg(feature = "service-bus")]
            Self::Amqp(namespace) => builder.lane(lane, namespace),
            #[cfg(feature = "service-bus-http")]
            Self::Https(namespace) => builder.lane(lane, namespace),
        }
    }
}

#[cfg(feature = "service-bus")]
fn amqp(lane: &Lane, text: &str, certificates: Option<&[u8]>) -> Result<Namespace, String> {
    let namespace = distributed_events::ServiceBus::from_connection_string(text);
    set(namespace.map_err(|error| error.to_string())?, lane, certificates)
}

#[cfg(feature = "cli-entra")]
fn by_identity(lane: &Lane, identity: &Identity, certificates: Option<&[u8]>) -> Result<Namespace, String> {
    let credential = super::entra::credential(&identity.credential)?;
    let namespace = distributed_events::ServiceBus::with_credential(&identity.namespace, credential);
    set(namespace.map_err(|error| error.to_string())?, lane, certificates)
}

#[cfg(not(feature = "cli-entra"))]
fn by_identity(_lane: &Lane, identity: &Identity, _certificates: Option<&[u8]>) -> Result<Namespace, String> {
    Err(format!("{} is not let in by an identity of Entra ID: {}", identity.namespace, missing("cli-entra")))
}

/// What a lane says of the way to its namespace.
#[cfg(feature = "service-bus")]
fn set(
    mut namespace: distributed_events::ServiceBus,
    lane: &Lane,
    certificates: Option<&[u8]>,
) -> Result<Namespace, String> {
    let wrong = |error: distributed_events::ServiceBusConfigError| error.to_string();
    if lane.transport == Transport::WebSockets {
        namespace = namespace.over_web_sockets();
    }
    if let Some(certificates) = certificates {
        namespace = namespace.root_certificates(certificates).map_err(wrong)?;
    }
    if let Some(timeout) = lane.timeout {
        namespace = namespace.timeout(timeout);
    }
    if let Some(endpoint) = &lane.management_endpoint {
        namespace = namespace.management_endpoint(endpoint).map_err(wrong)?;
    }
    Ok(Namespace::Amqp(namespace))
}

#[cfg(not(feature = "service-bus"))]
fn amqp(_lane: &Lane, _text: &str, _certificates: Option<&[u8]>) -> Result<Namespace, String> {
    Err(missing("service-bus"))
}

#[cfg(feature = "service-bus-http")]
fn https(lane: &Lane, text: &str, certificates: Option<&[u8]>) -> Result<Namespace, String> {
    let made = || {
        let mut namespace = distributed_events::ServiceBusHttp::from_connection_string(text)?;
        if let Some(certificates) = certificates {
            namespace = namespace.root_certificates(certificates)?;
        }
        if let Some(timeout) = lane.timeout {
            namespace = namespace.timeout(timeout);
        }
        if let Some(endpoint) = &lane.management_endpoint {
            namespace = namespace.endpoint(endpoint)?;
        }
        Ok(Namespace::Https(namespace))
    };
    made().map_err(|error: distributed_events::ServiceBusConfigError| error.to_string())
}

#[cfg(not(feature = "service-bus-http"))]
fn https(_lane: &Lane, _text: &str, _certificates: Option<&[u8]>) -> Result<Namespace, String> {
    Err(missing("service-bus-http"))
}

#[cfg(not(all(feature = "cli-entra", feature = "service-bus-http")))]
fn missing(feature: &str) -> String {
    format!(
        "this binary was built without the feature `{feature}`, which this transport needs: build one that has it"
    )
}
