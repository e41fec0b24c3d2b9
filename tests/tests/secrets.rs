//! Nothing that a run shows holds a key or a token, over either transport and whatever goes wrong.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use distributed_events::ServiceBus;
use tests::emulator::Emulator;
use tests::secrets::{OF_DATABASES, OF_NAMESPACES, Shown, fails_without, namespaces};
use tests::street::{Amqp, Http, Street, entities};

#[tokio::test]
async fn a_run_over_amqp_shows_no_key_and_no_token() {
    namespaces::a_run_shows_no_key_and_no_token::<Amqp>().await;
}

#[tokio::test]
async fn a_run_over_https_shows_no_key_and_no_token() {
    namespaces::a_run_shows_no_key_and_no_token::<Http>().await;
}

#[tokio::test]
async fn neither_web_sockets_nor_tls_show_a_token() {
    namespaces::neither_web_sockets_nor_tls_show_a_token().await;
}

#[test]
fn a_run_without_one_redaction_is_found_out() {
    for redaction in OF_NAMESPACES {
        let places: &[&str] = match redaction {
            "secret" => &["the Debug form of SharedKey"],
            "config-error" => &["the error of an endpoint"],
            other => panic!("nobody knows where {other} would be missed"),
        };
        for test in
            ["a_run_over_amqp_shows_no_key_and_no_token", "a_run_over_https_shows_no_key_and_no_token"]
        {
            fails_without(redaction, test, places);
        }
    }
}

/// Each of them is left out in some test.
#[test]
fn every_redaction_is_tried() {
    assert_eq!([&OF_NAMESPACES[..], &OF_DATABASES[..]].concat(), distributed_events::crash::REDACTIONS);
}

const TOKEN: &str = "eyJjYW5hcnkiOiJvZiJ9.eyJFbnRyYSI6IklEIn0.c2lnbmVkIGJ5IG5vYm9keQ";

/// An identity that the namespace doesn't know.
#[derive(Debug)]
struct Stranger;

#[async_trait]
impl TokenCredential for Stranger {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(TOKEN, OffsetDateTime::now_utc() + std::time::Duration::from_secs(600)))
    }
}

#[tokio::test]
async fn a_token_of_entra_is_not_shown() {
    let shown = Shown::new();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let trusted = ["--write-certificate", authority.to_str().unwrap()];
    let street = Street::<Amqp>::before(Emulator::start_with(&entities(true), &trusted)).await;
    let pem = std::fs::read(&authority).unwrap();
    let namespace = format!("localhost:{}", street.emulator.amqp().port());
    let broker = ServiceBus::with_credential(&namespace, Arc::new(Stranger)).unwrap();
    let broker = broker.root_certificates(&pem).unwrap();
    let managed = broker.management_endpoint(&format!("https://localhost:{}", street.emulator.http().port()));
    let publisher = street.publisher(broker.clone());
    street.publish(0..1).await;
    street.told("unauthorized-access").await;
    shown.debug("a broker", &broker);
    shown.debug("EventBus", &publisher.bus);
    for topology in publisher.bus.topology() {
        shown.failure("check_topology", managed.as_ref().unwrap().check_topology(&topology).await);
    }
    publisher.stop().await.unwrap();
    let instead = ServiceBus::with_credential(&street.emulator.connection_string(), Arc::new(Stranger));
    shown.failure("a namespace", instead);
    shown.text("an incident", street.incidents().join("\n"));
    shown.holds_none_of(&[TOKEN, "SAS_KEY_VALUE"]);
}
