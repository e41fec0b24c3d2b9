//! Connection strings, as the Azure portal shows them.

use std::fmt;

use super::secret::Secret;
use crate::crash;

/// Why a connection string, or what replaces one, can't be used. No message ever repeats a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceBusConfigError {
    /// A part is not `key=value`.
    #[error("part {part} of the connection string is not `key=value`: copy it anew from the Azure portal")]
    NotAPair {
        /// Which, counted from 1.
        part: usize,
    },
    /// A part that is needed is missing.
    #[error("the connection string has no `{key}`: copy it anew from the Azure portal")]
    Missing {
        /// Its key.
        key: &'static str,
    },
    /// A part stands there twice.
    #[error("the connection string has `{key}` twice: leave one")]
    Twice {
        /// Its key.
        key: String,
    },
    /// A namespace of Azure would be spoken to without encryption.
    #[error(
        "`{host}` is a namespace of Azure, and `UseDevelopmentEmulator=true` would speak to it without encryption: leave \
         that out"
    )]
    Unencrypted {
        /// Its host name.
        host: String,
    },
    /// The endpoint is not `sb://host/`.
    #[error("the endpoint is not of the form `sb://NAMESPACE.servicebus.windows.net/`")]
    Endpoint,
    /// The string is for one entity only, and a bus uses several.
    #[error(
        "the connection string is for the entity `{entity}` only: take one of the namespace, with the claims it needs"
    )]
    EntityPath {
        /// Which.
        entity: String,
    },
    /// A management endpoint is no URL, or one without encryption for a namespace that is not the emulator's.
    #[error(
        "`{0}` is no endpoint of the management API: write `https://HOST[:PORT]`, or `http://` with \
         `UseDevelopmentEmulator=true` alone"
    )]
    ManagementEndpoint(String),
    /// Certificates that can't be read.
    #[error("the root certificates can't be read: {0}; give them in PEM form")]
    Certificates(String),
    /// A namespace is not a host name.
    #[error("`{0}` is not the host name of a namespace, such as `shop.servicebus.windows.net`")]
    Namespace(String),
}

/// Where a namespace is, and the key to it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::broker) struct ConnectionString {
    pub(in crate::broker) host: String,
    pub(in crate::broker) port: Option<u16>,
    pub(in crate::broker) key_name: String,
    pub(in crate::broker) key: Secret,
    pub(in crate::broker) emulator: bool,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

impl ConnectionString {
    pub(in crate::broker) fn parse(text: &str) -> Result<Self, ServiceBusConfigError> {
        use ServiceBusConfigError as Error;
        let mut found: Vec<(String, &str)> = Vec::new();
        for (index, part) in text.split(';').enumerate() {
            if part.trim().is_empty() {
                continue;
            }
            // Keys end with `=` signs of their own, so only the first one separates.
            let (key, value) = part.split_once('=').ok_or(Error::NotAPair { part: index + 1 })?;
            let key = key.trim();
            if found.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                // A key that was pasted without its name stands here, too: it ends with `=`.
                let word = key.len() < SHORTEST_KEY && key.chars().all(|c| c.is_ascii_alphabetic());
                return Err(Error::Twice { key: if word { key.to_owned() } else { "…".to_owned() } });
            }
            found.push((key.to_owned(), value.trim()));
        }
        let get = |key: &str| {
            found.iter().find(|(found, _)| found.eq_ignore_ascii_case(key)).map(|(_, value)| *value)
        };
        let need =
            |key: &'static str| get(key).filter(|value| !value.is_empty()).ok_or(Error::Missing { key });
        let endpoint = need("Endpoint")?;
        let (host, port) = endpoint_of(endpoint).ok_or(Error::Endpoint)?;
        if let Some(entity) = get("EntityPath") {
            return Err(Error::EntityPath { entity: shown(entity) });
        }
        // Exactly this text, as Microsoft's clients have it.
        let emulator = get("UseDevelopmentEmulator") == Some("true");
        if emulator && is_azures(&host) {
            return Err(Error::Unencrypted { host });
        }
        Ok(Self {
            host,
            port,
            key_name: need("SharedAccessKeyName")?.to_owned(),
            key: Secret::new(need("SharedAccessKey")?),
            emulator,
        })
    }
}

/// A text that isn't what it should be, as an error may show it: people paste whole connection strings, and keys, where a
/// name or a URL belongs. Neither has these characters, but for a URL's that names a user.
pub(in crate::broker) fn shown(text: &str) -> String {
    let may_be_secret = text.contains(['=', ';', '@', '+']) || text.len() > LONGEST_SHOWN;
    if may_be_secret && !crash::is_broken("config-error") {
        return "…".to_owned();
    }
    text.to_owned()
}

/// Characters of a key without what it ends with, and more than any word of a connection string has.
const SHORTEST_KEY: usize = 40;
/// No host name is longer.
const LONGEST_SHOWN: usize = 253;

/// In whichever cloud: `shop.servicebus.windows.net`, `shop.servicebus.chinacloudapi.cn`.
fn is_azures(host: &str) -> bool {
    host.contains(".servicebus.")
}

/// Host and port of `sb://host[:port][/]`.
fn endpoint_of(endpoint: &str) -> Option<(String, Option<u16>)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("sb") {
        return None;
    }
    host_and_port(rest.strip_suffix('/').unwrap_or(rest))
}

/// Host and port of `host[:port]`.
pub(in crate::broker) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') => (host, Some(port.parse().ok()?)),
        // The colons of an IPv6 address without brackets would be ambiguous.
        Some(_) => return None,
        None => (text, None),
    };
    let valid =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    valid.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "bm90IGEgcmVhbCBrZXk=";

    fn text(rest: &str) -> String {
        format!(
            "Endpoint=sb://Shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={KEY}{rest}"
        )
    }

    #[test]
    fn reads_what_the_portal_shows() {
        let parsed = ConnectionString::parse(&text("")).unwrap();
        assert_eq!(parsed.host, "shop.servicebus.windows.net");
        assert_eq!((parsed.port, parsed.emulator), (None, false));
        assert_eq!((parsed.key_name.as_str(), parsed.key.reveal()), ("Root", KEY));
    }

    #[test]
    fn reads_the_emulators() {
        let text = "Endpoint=sb://localhost:5673;SharedAccessKeyName=Root;SharedAccessKey=k;UseDevelopmentEmulator=true;";
        let parsed = ConnectionString::parse(text).unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.emulator), ("localhost", Some(5673), true));
    }

    #[test]
    fn only_the_exact_word_turns_encryption_off() {
        for word in ["True", "yes", "1", ""] {
            let parsed = ConnectionString::parse(&text(&format!(";UseDevelopmentEmulator={word}"))).unwrap();
            assert!(!parsed.emulator, "{word}");
        }
    }

    #[test]
    fn encryption_can_not_be_turned_off_for_azure() {
        let error = ConnectionString::parse(&text(";UseDevelopmentEmulator=true")).unwrap_err();
        assert_eq!(
            error,
            ServiceBusConfigError::Unencrypted { host: "shop.servicebus.windows.net".to_owned() }
        );
        for host in ["shop.servicebus.usgovcloudapi.net", "SHOP.ServiceBus.chinacloudapi.cn."] {
            let text = format!(
                "Endpoint=sb://{host}:5672;SharedAccessKeyName=k;SharedAccessKey=k;UseDevelopmentEmulator=true"
            );
            assert!(ConnectionString::parse(&text).is_err(), "{host}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_never_the_key() {
        use ServiceBusConfigError as Error;
        let wrong = [
            ("nonsense".to_owned(), Error::NotAPair { part: 1 }),
            ("Endpoint=sb://a/;SharedAccessKeyName=x".to_owned(), Error::Missing { key: "SharedAccessKey" }),
            ("Endpoint=https://a/;SharedAccessKeyName=x;SharedAccessKey=y".to_owned(), Error::Endpoint),
            (text(";endpoint=sb://b/"), Error::Twice { key: "endpoint".to_owned() }),
            (text(";EntityPath=orders"), Error::EntityPath { entity: "orders".to_owned() }),
            // A key alone looks like `key=value`, because it ends with `=`.
            (format!("{KEY};{KEY}"), Error::Twice { key: "…".to_owned() }),
            (
                text(&format!(";EntityPath=SharedAccessKey={KEY}")),
                Error::EntityPath { entity: "…".to_owned() },
            ),
        ];
        for (text, error) in wrong {
            let found = ConnectionString::parse(&text).unwrap_err();
            assert!(!found.to_string().contains(KEY) && !format!("{found:?}").contains(KEY));
            assert_eq!(found, error);
        }
    }

    #[test]
    fn its_debug_form_hides_the_key() {
        assert!(!format!("{:?}", ConnectionString::parse(&text("")).unwrap()).contains(KEY));
    }
}

#[cfg(test)]
mod properties;
