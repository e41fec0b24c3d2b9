//! Connection strings, as the Azure portal shows them.

use std::fmt;

use super::secret::Secret;

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
                return Err(Error::Twice { key: key.to_owned() });
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
            return Err(Error::EntityPath { entity: entity.to_owned() });
        }
        Ok(Self {
            host,
            port,
            key_name: need("SharedAccessKeyName")?.to_owned(),
            key: Secret::new(need("SharedAccessKey")?),
            // Exactly this text, as Microsoft's clients have it.
            emulator: get("UseDevelopmentEmulator") == Some("true"),
        })
    }
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
    fn says_what_is_wrong_and_never_the_key() {
        use ServiceBusConfigError as Error;
        let wrong = [
            ("nonsense".to_owned(), Error::NotAPair { part: 1 }),
            ("Endpoint=sb://a/;SharedAccessKeyName=x".to_owned(), Error::Missing { key: "SharedAccessKey" }),
            ("Endpoint=https://a/;SharedAccessKeyName=x;SharedAccessKey=y".to_owned(), Error::Endpoint),
            (text(";endpoint=sb://b/"), Error::Twice { key: "endpoint".to_owned() }),
            (text(";EntityPath=orders"), Error::EntityPath { entity: "orders".to_owned() }),
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
