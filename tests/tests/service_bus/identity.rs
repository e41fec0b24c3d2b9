//! An identity of Microsoft Entra ID, as far as that can be had without Azure: a credential that is asked for tokens, and a
//! door that looks at them. The emulator knows no token of Entra's, but checks the signature and the end of what it is given
//! as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use base64::Engine;
use distributed_events::ServiceBus;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tests::emulator::Emulator;

use crate::{Street, entities};

const LIFETIME: u64 = 5;

#[derive(Debug)]
struct Identity {
    key: &'static str,
    asked: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl TokenCredential for Identity {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://servicebus.azure.net//.default"]);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + LIFETIME;
        let resource = "sb%3A%2F%2Flocalhost%2F";
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).unwrap();
        mac.update(format!("{resource}\n{end}").as_bytes());
        let signed = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let signed = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let token = format!(
            "SharedAccessSignature sr={resource}&sig={signed}&se={end}&skn=RootManageSharedAccessKey"
        );
        let end = OffsetDateTime::from_unix_timestamp(i64::try_from(end).unwrap()).unwrap();
        Ok(AccessToken::new(token, end))
    }
}

/// An emulator, and Service Bus there by an identity with this key.
fn emulator(key: &'static str) -> (Emulator, ServiceBus, Arc<AtomicUsize>) {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let trusted = ["--write-certificate", authority.to_str().unwrap()];
    let emulator = Emulator::start_with(&entities(true), &trusted);
    let asked = Arc::new(AtomicUsize::new(0));
    let identity = Identity { key, asked: Arc::clone(&asked) };
    let namespace = format!("localhost:{}", emulator.amqp().port());
    let broker = ServiceBus::with_credential(&namespace, Arc::new(identity)).unwrap();
    let broker = broker.root_certificates(&std::fs::read(&authority).unwrap()).unwrap();
    (emulator, broker, asked)
}

#[tokio::test]
async fn its_tokens_are_asked_for_before_they_expire() {
    let (emulator, broker, asked) = emulator("SAS_KEY_VALUE");
    let street = Street::before(emulator).await;
    let (publisher, subscriber) = (street.publisher(broker.clone()), street.subscriber(broker));
    for number in 0..60 {
        street.publish(number..number + 1).await;
        street.effects(number + 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(street.incidents(), [""; 0]);
    assert!(asked.load(Ordering::Relaxed) >= 6, "for three entities, more than once each");
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_and_not_shown() {
    let (emulator, broker, _asked) = emulator("not the key");
    let street = Street::before(emulator).await;
    let publisher = street.publisher(broker);
    street.publish(0..1).await;
    let told = street.told("unauthorized-access").await;
    assert!(!told.contains("sig="), "{told}");
    publisher.stop().await.unwrap();
}
