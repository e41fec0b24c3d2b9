//! Who we are to Service Bus: shared keys, or an identity of Microsoft Entra ID.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::secret::Secret;

/// How long a signature of ours is good for.
const LIFETIME: Duration = Duration::from_secs(3600);
/// What .NET's `UrlEncode` leaves alone, which is what Service Bus checks signatures over.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A shared access key of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKey {
    name: String,
    key: Secret,
}

impl SharedKey {
    /// A key with its rule's name, as the Azure portal shows them.
    #[must_use]
    pub fn new(name: impl Into<String>, key: &str) -> Self {
        Self { name: name.into(), key: Secret::new(key) }
    }
}

impl SharedKey {
    pub(in crate::broker) const fn from_parts(name: String, key: Secret) -> Self {
        Self { name, key }
    }
}

/// Gives the keys that are to be used from now on: see
/// `ServiceBus::on_unauthorized`.
pub type KeySource = Arc<dyn Fn() -> BoxFuture<'static, Option<SharedKey>> + Send + Sync>;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token for {audience}: {reason}")]
pub(in crate::broker) struct TokenError {
    pub(in crate::broker) audience: String,
    pub(in crate::broker) reason: String,
}

/// A token for `$cbs` or HTTP.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Token {
    pub(in crate::broker) text: Secret,
    pub(in crate::broker) kind: &'static str,
    #[cfg_attr(not(feature = "service-bus"), expect(dead_code, reason = "HTTP asks for a token each time"))]
    pub(in crate::broker) expires_at: SystemTime,
}

/// The ways to be known.
#[derive(Clone)]
pub(in crate::broker) enum Credential {
    /// Keys, of which one is in use.
    Keys(Arc<Keys>),
    /// A token of Entra ID.
    #[cfg(feature = "entra")]
    Entra(Arc<dyn azure_core::credentials::TokenCredential>),
}

/// Keys, of which one is in use until it is refused.
pub(in crate::broker) struct Keys {
    state: Mutex<(Vec<SharedKey>, usize)>,
    source: Mutex<Option<KeySource>>,
    lifetime: Mutex<Duration>,
}

impl Keys {
    pub(in crate::broker) fn new(first: SharedKey) -> Self {
        Self { state: Mutex::new((vec![first], 0)), source: Mutex::new(None), lifetime: Mutex::new(LIFETIME) }
    }

    pub(in crate::broker) fn add(&self, key: SharedKey) {
        self.lock().0.push(key);
    }

    pub(in crate::broker) fn refresh_from(&self, source: KeySource) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    #[cfg(feature = "service-bus")]
    pub(in crate::broker) fn sign_for(&self, lifetime: Duration) {
        *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner) = lifetime;
    }

    fn lifetime(&self) -> Duration {
        *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> SharedKey {
        let state = self.lock();
        // There is always one, and the index wraps around them.
        state.0[state.1 % state.0.len()].clone()
    }

    /// The key in use was refused: the next one's turn, after the source was asked for a newer.
    async fn refused(&self) {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let newer = match source {
            Some(source) => source().await,
            None => None,
        };
        let mut state = self.lock();
        match newer {
            Some(key) if !state.0.contains(&key) => *state = (vec![key], 0),
            _ => state.1 = (state.1 + 1) % state.0.len(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<SharedKey>, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => f.debug_tuple("Keys").field(&keys.current().name).finish(),
            #[cfg(feature = "entra")]
            Self::Entra(_) => f.write_str("Entra"),
        }
    }
}

impl Credential {
    /// Its keys, if it has any.
    pub(in crate::broker) const fn keys(&self) -> Option<&Arc<Keys>> {
        match self {
            Self::Keys(keys) => Some(keys),
            #[cfg(feature = "entra")]
            Self::Entra(_) => None,
        }
    }

    /// A token for an audience such as `sb://host/topic`.
    pub(in crate::broker) async fn token(&self, audience: &str) -> Result<Token, TokenError> {
        match self {
            Self::Keys(keys) => {
                // The wire has whole seconds.
                let expires_at = SystemTime::now() + keys.lifetime();
                let seconds = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let expires_at = UNIX_EPOCH + Duration::from_secs(seconds);
                let text = Secret::new(&signature(audience, &keys.current(), expires_at));
                Ok(Token { text, kind: "servicebus.windows.net:sastoken", expires_at })
            }
            #[cfg(feature = "entra")]
            Self::Entra(credential) => {
                // Two slashes, as in Microsoft's own clients.
                let scopes = ["https://servicebus.azure.net//.default"];
                let token = credential.get_token(&scopes, None).await.map_err(|error| TokenError {
                    audience: audience.to_owned(),
                    reason: format!(
                        "{} (check the identity that this process runs under)",
                        reason_of(&error)
                    ),
                })?;
                let expires_at =
                    UNIX_EPOCH + Duration::from_secs(token.expires_on.unix_timestamp().max(0).unsigned_abs());
                Ok(Token { text: Secret::new(token.token.secret()), kind: "jwt", expires_at })
            }
        }
    }

    /// What it was last was refused: another key may be right.
    pub(in crate::broker) async fn refused(&self) {
        match self {
            Self::Keys(keys) => keys.refused().await,
            #[cfg(feature = "entra")]
            Self::Entra(_) => {}
        }
    }
}

/// In one line: `azure_identity` writes several, and hides why there was no answer behind that it asks no more.
#[cfg(feature = "entra")]
fn reason_of(error: &azure_core::Error) -> String {
    let text = crate::error::with_causes(error);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A shared access signature (Service Bus, "Shared access signatures").
fn signature(audience: &str, key: &SharedKey, expires_at: SystemTime) -> String {
    let resource = utf8_percent_encode(audience, ESCAPED).to_string();
    let expiry = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // HMAC takes keys of every length.
    let mut mac = match Hmac::<Sha256>::new_from_slice(key.key.reveal().as_bytes()) {
        Ok(mac) => mac,
        Err(error) => unreachable!("{error}"),
    };
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signed = STANDARD.encode(mac.finalize().into_bytes());
    let signed = utf8_percent_encode(&signed, ESCAPED);
    let name = utf8_percent_encode(&key.name, ESCAPED);
    format!("SharedAccessSignature sr={resource}&sig={signed}&se={expiry}&skn={name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Keys {
        let mut all = names.iter().map(|name| SharedKey::new(*name, &format!("key of {name}")));
        let keys = Keys::new(all.next().unwrap());
        all.for_each(|key| keys.add(key));
        keys
    }

    #[test]
    fn signs_as_microsofts_clients_do() {
        // Made with Python's hmac, by the steps that azure-servicebus 7.15 takes.
        let key = SharedKey::new("RootManageSharedAccessKey", "SAS_KEY_VALUE");
        let signed =
            signature("sb://localhost/orders", &key, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!(
            signed,
            "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&sig=OvnO5N1kEIwBmrclASqCxOgn6WOCEYukJlburvDlKlM%3D&se=1700000000&skn=RootManageSharedAccessKey"
        );
    }

    #[tokio::test]
    async fn a_refused_key_gives_way_to_the_next_and_back() {
        let keys = keys(&["primary", "secondary"]);
        keys.refused().await;
        assert_eq!(keys.current().name, "secondary");
        keys.refused().await;
        assert_eq!(keys.current().name, "primary");
    }

    #[tokio::test]
    async fn a_newer_key_replaces_all() {
        let keys = keys(&["primary", "secondary"]);
        keys.refresh_from(Arc::new(|| Box::pin(async { Some(SharedKey::new("primary", "rolled")) })));
        keys.refused().await;
        assert_eq!(keys.current().key.reveal(), "rolled");
        keys.refused().await;
        assert_eq!(keys.current().key.reveal(), "rolled", "there is no other");
    }

    /// As `azure_identity` tells that a managed identity's door does not answer.
    #[cfg(feature = "entra")]
    #[test]
    fn why_there_is_no_token_of_entra_is_told_in_one_line_and_once() {
        use azure_core::error::{Error, ErrorKind};
        let cause = Error::with_message(ErrorKind::Io, "no route to host");
        let error = cause.with_context("not tried again");
        let error =
            Error::with_error(ErrorKind::Credential, error, "failed. not tried again\r\n\nTo mend it, read");
        assert_eq!(reason_of(&error), "failed. not tried again; To mend it, read: no route to host");
    }

    #[test]
    fn debug_shows_no_key() {
        let credential = Credential::Keys(Arc::new(keys(&["primary"])));
        assert_eq!(format!("{credential:?}"), "Keys(\"primary\")");
        assert!(!format!("{:?}", SharedKey::new("n", "canary")).contains("canary"));
    }
}
