//! `[lanes.NAME]`: the namespace of a lane, and who the relay is there.

use std::path::PathBuf;
use std::time::Duration;

use super::Given;
use super::reader::Section;

/// How a namespace is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Amqp,
    WebSockets,
    Https,
}

/// The broker of a lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) transport: Transport,
    pub(crate) management_endpoint: Option<String>,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
}

/// By what a namespace lets the relay in.
#[derive(Debug)]
pub(crate) enum Access {
    /// A connection string, with a key.
    ConnectionString(Given),
    /// An identity of Microsoft Entra ID.
    Identity(Identity),
}

/// An identity of Microsoft Entra ID. What is not said here the environment says, by the names that Azure gives.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The host name of the namespace.
    pub(crate) namespace: String,
    #[cfg_attr(
        not(feature = "cli-entra"),
        expect(dead_code, reason = "a mistake in it is told all the same")
    )]
    pub(crate) credential: Credential,
    /// File, line and key.
    pub(crate) at: String,
}

/// How a token is come by.
#[derive(Debug)]
#[cfg_attr(not(feature = "cli-entra"), expect(dead_code, reason = "a mistake in it is told all the same"))]
pub(crate) enum Credential {
    /// The machine's own identity, or the one with this client id.
    Managed { client_id: Option<String> },
    /// A pod's: a file that Kubernetes renews.
    Workload { client_id: Option<String>, tenant_id: Option<String>, token_file: Option<PathBuf> },
    /// An application's, with its secret.
    Secret { client_id: Option<String>, tenant_id: Option<String>, secret: Given },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Managed,
    Workload,
    Secret,
}

impl Lane {
    pub(super) fn of((name, mut section): (String, Section<'_>)) -> Option<Self> {
        if section.text("broker").is_some_and(|broker| broker != "service-bus") {
            section.wrong(
                "broker",
                "a relay of its own speaks to \"service-bus\" alone: the local broker delivers within the processes of its \
                 services, and needs no relay",
            );
        }
        let connection_string = section.given("connection_string");
        let identity = Identity::of(&mut section);
        let access = match (connection_string, identity) {
            (Some(_), Some(_)) => {
                section.wrong(
                    "namespace",
                    "it stands in the connection string already: leave one of both out, with its keys",
                );
                None
            }
            (Some(given), None) => Some(Access::ConnectionString(given)),
            (None, Some(identity)) => identity.map(Access::Identity),
            (None, None) => {
                section.wrong(
                    "connection_string_env",
                    "it is missing: name the environment variable, or with `connection_string_file` the file, that holds the \
                     connection string of the namespace; or name the `namespace` and the `credential` to come in with",
                );
                None
            }
        };
        let transports =
            [("amqp", Transport::Amqp), ("web-sockets", Transport::WebSockets), ("https", Transport::Https)];
        let transport = section.choice("transport", &transports).unwrap_or(Transport::Amqp);
        if transport == Transport::Https && matches!(access, Some(Access::Identity(_))) {
            section.wrong(
                "transport",
                "an identity comes in by \"amqp\" or \"web-sockets\" (over port 443) alone",
            );
        }
        let found = (
            section.text("management_endpoint"),
            section.text("root_certificates").map(PathBuf::from),
            section.span("timeout", Duration::from_secs(1)..=Duration::from_secs(600)),
        );
        section.finish();
        let (management_endpoint, root_certificates, timeout) = found;
        Some(Self { name, access: access?, transport, management_endpoint, root_certificates, timeout })
    }
}

impl Identity {
    /// None where none is meant; none within where it is wrong.
    fn of(section: &mut Section<'_>) -> Option<Option<Self>> {
        const KEYS: [&str; 7] = [
            "namespace",
            "credential",
            "client_id",
            "tenant_id",
            "client_secret_env",
            "client_secret_file",
            "token_file",
        ];
        let is_meant = KEYS.iter().any(|key| section.has(key));
        let kinds = [
            ("managed-identity", Kind::Managed),
            ("workload-identity", Kind::Workload),
            ("client-secret", Kind::Secret),
        ];
        let kind = section.choice("credential", &kinds);
        let namespace = if is_meant { section.needed("namespace") } else { section.text("namespace") };
        if is_meant && !section.has("credential") {
            let names: Vec<_> = kinds.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            section.wrong("credential", &format!("it is missing: say one of {}", names.join(", ")));
        }
        let (client_id, tenant_id) = (section.text("client_id"), section.text("tenant_id"));
        let (secret, token_file) = (section.secret("client_secret"), section.text("token_file"));
        if !is_meant {
            return None;
        }
        let of_no_use = |key: &str, kinds: &str| {
            if section.has(key) {
                section.wrong(key, &format!("it is of use with `credential = {kinds}` alone: leave it out"));
            }
        };
        if kind.is_some_and(|kind| kind != Kind::Secret) {
            of_no_use("client_secret_env", "\"client-secret\"");
            of_no_use("client_secret_file", "\"client-secret\"");
        }
        if kind.is_some_and(|kind| kind != Kind::Workload) {
            of_no_use("token_file", "\"workload-identity\"");
        }
        if kind == Some(Kind::Managed) {
            of_no_use("tenant_id", "\"client-secret\"` and `\"workload-identity\"");
        }
        let credential = match kind {
            None => return Some(None),
            Some(Kind::Managed) => Credential::Managed { client_id },
            Some(Kind::Workload) => {
                Credential::Workload { client_id, tenant_id, token_file: token_file.map(PathBuf::from) }
            }
            Some(Kind::Secret) => match secret {
                Some(secret) => Credential::Secret { client_id, tenant_id, secret },
                None => {
                    section.wrong(
                        "client_secret_env",
                        "it is missing: name the environment variable, or with `client_secret_file` the file, that holds the \
                         secret of the application",
                    );
                    return Some(None);
                }
            },
        };
        let at = section.place_of("namespace");
        Some(namespace.map(|namespace| Self { namespace, credential, at }))
    }
}
