//! Shared access signatures: who signed a token, for what, and until when. Both doors ask here.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::model::Time;

/// The key's name in the official emulator's connection string.
pub const KEY_NAME: &str = "RootManageSharedAccessKey";
/// The key in the official emulator's connection string.
pub const KEY: &str = "SAS_KEY_VALUE";

/// What every token begins with.
const SCHEME: &str = "SharedAccessSignature ";
/// Nobody signs more than this; a longer token is no token.
const LONGEST: usize = 16 * 1024;

/// Whose signatures count. Every key may do everything: send, listen and manage.
#[derive(Clone)]
pub struct Authority {
    keys: Vec<(String, String)>,
    checks: bool,
}

impl Authority {
    /// These names and keys.
    #[must_use]
    pub fn new(keys: Vec<(String, String)>) -> Self {
        Self { keys, checks: true }
    }

    /// Anybody, with any token or none.
    #[must_use]
    pub fn unchecked() -> Self {
        Self { keys: Vec::new(), checks: false }
    }

    /// Whether a token is needed at all.
    #[must_use]
    pub fn checks(&self) -> bool {
        self.checks
    }

    /// What a token allows, where its signature is right and its time isn't over.
    pub fn check_token(&self, token: &str, now: Time) -> Result<Grant, Refusal> {
        if !self.checks {
            return Ok(Grant::everything());
        }
        let parts = Parts::read(token).ok_or(Refusal::NotAToken)?;
        let key = self.key(&parts.key_name).ok_or(Refusal::UnknownKey)?;
        let seconds: u64 = parts.expiry.parse().map_err(|_| Refusal::NotAToken)?;
        let signature = STANDARD.decode(&parts.signature).map_err(|_| Refusal::WrongSignature)?;
        // Any key length is right for HMAC.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| Refusal::UnknownKey)?;
        mac.update(parts.resource.as_bytes());
        mac.update(b"\n");
        mac.update(parts.expiry.as_bytes());
        mac.verify_slice(&signature).map_err(|_| Refusal::WrongSignature)?;
        let expires = Time(seconds.saturating_mul(1000));
        if expires <= now {
            return Err(Refusal::Expired);
        }
        let resource = decode(parts.resource);
        // Signed without a scheme, what comes first is a host all the same.
        let resource = if resource.contains("://") { resource } else { format!("sb://{resource}") };
        Ok(Grant { scope: Scope::of(&resource), expires })
    }

    /// Whether that is the key of that name: for SASL PLAIN.
    #[must_use]
    pub fn check_key(&self, name: &str, key: &str) -> bool {
        !self.checks || self.key(name).is_some_and(|known| equal(known.as_bytes(), key.as_bytes()))
    }

    fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(known, _)| known == name).map(|(_, key)| key.as_str())
    }
}

impl Default for Authority {
    /// The official emulator's key.
    fn default() -> Self {
        Self::new(vec![(KEY_NAME.to_owned(), KEY.to_owned())])
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.keys.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Authority")
            .field("names", &names)
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

/// In a time that doesn't tell where they differ.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differences, (left, right)| differences | (left ^ right)) == 0
}

/// What a valid token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    scope: Scope,
    expires: Time,
}

impl Grant {
    fn everything() -> Self {
        Self { scope: Scope::of(""), expires: Time::NEVER }
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// Whether it is for that entity, given as an address or URL, or for something that holds it: a token for a topic
    /// is one for its subscriptions, too.
    #[must_use]
    pub fn covers(&self, address: &str) -> bool {
        self.scope.holds(&Scope::of(address))
    }
}

/// The path of a URL or address as its segments: hosts differ where an emulator is reached by another name, queries
/// are part of what some clients sign.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope(Vec<String>);

impl Scope {
    fn of(address: &str) -> Self {
        let path = match address.find("://") {
            Some(scheme) => {
                let rest = &address[scheme + 3..];
                rest.find('/').map_or("", |slash| &rest[slash..])
            }
            None => address,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        Self(segments.map(|segment| decode(segment).to_lowercase()).collect())
    }

    fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// The fields of a token. The resource stays encoded: that is what was signed.
struct Parts<'a> {
    resource: &'a str,
    signature: String,
    expiry: &'a str,
    key_name: String,
}

impl<'a> Parts<'a> {
    fn read(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST || !token.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let (mut resource, mut signature, mut expiry, mut key_name) = (None, None, None, None);
        for field in token[SCHEME.len()..].trim().split('&') {
            let (name, value) = field.split_once('=')?;
            let before = match name.to_ascii_lowercase().as_str() {
                "sr" => resource.replace(value),
                "sig" => signature.replace(value),
                "se" => expiry.replace(value),
                "skn" => key_name.replace(value),
                _ => None,
            };
            // Which of two is meant is nobody's guess.
            if before.is_some() {
                return None;
            }
        }
        Some(Self {
            resource: resource?,
            signature: decode(signature?),
            expiry: expiry?,
            key_name: decode(key_name?),
        })
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Why a token doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No shared access signature with `sr`, `sig`, `se` and `skn`.
    #[error("InvalidToken: the token is not a shared access signature with sr, sig, se and skn")]
    NotAToken,
    /// `skn` names no key.
    #[error("InvalidSignature: there is no key of the name that the token's skn gives")]
    UnknownKey,
    /// Signed with another key, or changed since.
    #[error("InvalidSignature: the token has an invalid signature")]
    WrongSignature,
    /// `se` is over.
    #[error("ExpiredToken: the token is expired")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `azure-servicebus` 7.15.0: `generate_sas_token("sb://localhost/orders", KEY_NAME, KEY, 1800000000)`.
    const PYTHON: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders\
        &sig=ZXz%2Fu90Z1WAqH6tUiJlxVzzR23W1qStHQWFpGGHvsE4%3D&se=1800000000&skn=RootManageSharedAccessKey";
    /// As `@azure/service-bus` 7.9.5 signs administration: the whole URL in lower case, `sr` last.
    const JAVASCRIPT: &str = "SharedAccessSignature sig=69s8PM2lIWfmlnQQ0cNkUx0R7LtgREnlLMLA4IL%2FTVc%3D\
        &se=1800000000&skn=RootManageSharedAccessKey\
        &sr=https%3a%2f%2flocalhost%3a5300%2forders%3fapi-version%3d2021-05";
    const BEFORE: Time = Time(1_799_999_999_999);

    #[test]
    fn what_microsofts_sdks_sign_is_right_until_its_time_is_over() {
        let authority = Authority::default();
        for token in [PYTHON, JAVASCRIPT] {
            let grant = authority.check_token(token, BEFORE).unwrap();
            assert_eq!(grant.expires(), Time(1_800_000_000_000));
            assert!(grant.covers("sb://localhost/Orders") && grant.covers("orders/$DeadLetterQueue"));
            assert!(!grant.covers("orders2") && !grant.covers("") && !grant.covers("other/orders"));
            assert_eq!(authority.check_token(token, Time(1_800_000_000_000)), Err(Refusal::Expired));
        }
    }

    #[test]
    fn a_changed_token_is_refused() {
        let authority = Authority::default();
        let refusal = |token: &str| authority.check_token(token, BEFORE).unwrap_err();
        assert_eq!(refusal(&PYTHON.replace("orders", "others")), Refusal::WrongSignature);
        assert_eq!(refusal(&PYTHON.replace("=18", "=19")), Refusal::WrongSignature);
        assert_eq!(refusal(&PYTHON.replace("sig=Z", "sig=A")), Refusal::WrongSignature);
        assert_eq!(refusal(&PYTHON.replace("sig=Z", "sig=*")), Refusal::WrongSignature);
        assert_eq!(refusal(&PYTHON.replace("sig=ZXz", "sig=")), Refusal::WrongSignature);
        assert_eq!(refusal(&PYTHON.replace("skn=Root", "skn=root")), Refusal::UnknownKey);
        assert_eq!(refusal(&PYTHON.replace("1800000000", "18e8")), Refusal::NotAToken);
        assert_eq!(refusal(&format!("{PYTHON}&sr=sb%3A%2F%2Flocalhost")), Refusal::NotAToken);
        let other = Authority::new(vec![(KEY_NAME.to_owned(), "another".to_owned())]);
        assert_eq!(other.check_token(PYTHON, BEFORE), Err(Refusal::WrongSignature));
        let long = format!("{PYTHON}&x={}", "x".repeat(LONGEST));
        for wrong in [
            "",
            "SharedAccessSignature",
            "SharedAccessSignature ",
            "Bearer x",
            "ßharedAccessSignature sr=",
            &long,
        ] {
            assert_eq!(refusal(wrong), Refusal::NotAToken, "{wrong:.40}");
        }
    }

    #[test]
    fn a_grant_covers_what_lies_below_it() {
        let grant = |sr: &str| Grant { scope: Scope::of(sr), expires: Time::NEVER };
        for all in ["https://localhost:5300", "sb://ns.servicebus.windows.net/", ""] {
            assert!(grant(all).covers("anything/at/all"), "{all}");
        }
        let rest = grant("https://localhost/t/messages?timeout=60");
        assert!(rest.covers("/T/messages") && !rest.covers("/t"));
        assert!(grant("sb://h/t").covers("amqps://localhost/t/Subscriptions/s/$management"));
        assert!(!grant("sb://h/t/subscriptions/s").covers("t/subscriptions/s2"));
        assert!(
            grant("https://h/t/subscriptions/s/rules/%24default").covers("t/Subscriptions/s/Rules/$Default")
        );
    }

    #[test]
    fn a_key_counts_under_its_name_and_without_checks_everything_does() {
        let authority = Authority::default();
        assert!(authority.check_key(KEY_NAME, KEY));
        assert!(!authority.check_key(KEY_NAME, "SAS_KEY_VALUF") && !authority.check_key(KEY_NAME, ""));
        assert!(!authority.check_key("other", KEY));
        let unchecked = Authority::unchecked();
        assert!(unchecked.check_key("anybody", "anything") && !unchecked.checks());
        assert!(unchecked.check_token("", BEFORE).unwrap().covers("orders"));
        assert!(!format!("{authority:?}").contains(KEY), "keys stay out of logs");
    }

    proptest::proptest! {
        #[test]
        fn no_garbage_is_a_token(fields in "(SharedAccessSignature )?(((sr|sig|se|skn|x)?=?[a-zA-Z0-9%+/=. é]{0,9}&?){0,6})") {
            proptest::prop_assert!(Authority::default().check_token(&fields, BEFORE).is_err());
        }
    }
}
