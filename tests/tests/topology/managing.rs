//! The management API when it refuses, is busy, or is not there at all.

use std::time::Duration;

use distributed_events::topology::TopologyReport;
use distributed_events::{ServiceBus, SharedKey, TopologyError};
use tests::emulator::Emulator;
use tokio::time::Instant;

use crate::door::{Door, answer};
use crate::{at, billing, empty};

const CONNECTION_STRING: &str = "Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;\
                                 SharedAccessKey=canary-of-a-key;UseDevelopmentEmulator=true;";

/// Everything that could show a secret of ours.
fn assert_no_secret(error: &TopologyError) {
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("canary") && !text.contains("SharedAccessSignature"), "{text}");
    }
}

fn with_wrong_key(emulator: &Emulator) -> ServiceBus {
    at(CONNECTION_STRING, &format!("http://{}", emulator.http()))
}

#[tokio::test]
async fn a_wrong_key_is_told_and_the_second_one_is_tried() {
    let emulator = empty();
    let error = with_wrong_key(&emulator).ensure_topology(&billing()).await.unwrap_err();
    assert!(matches!(error, TopologyError::Unauthorized { .. }), "{error}");
    assert_no_secret(&error);
    let second = SharedKey::new("RootManageSharedAccessKey", "SAS_KEY_VALUE");
    let report = with_wrong_key(&emulator).second_key(second).ensure_topology(&billing()).await.unwrap();
    assert!(report.is_as_wanted() && report.created.len() == 3, "{report}");
}

#[tokio::test]
async fn tls_with_a_certificate_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let entities = serde_json::json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [] });
    let emulator = Emulator::start_with(&entities, &["--write-certificate", authority.to_str().unwrap()]);
    let url = format!("https://localhost:{}", emulator.http().port());
    let stranger = at(&emulator.connection_string(), &url).timeout(Duration::from_secs(2));
    let error = stranger.ensure_topology(&billing()).await.unwrap_err();
    assert!(matches!(error, TopologyError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    let pem = std::fs::read(&authority).unwrap();
    let trusting = at(&emulator.connection_string(), &url).root_certificates(&pem).unwrap();
    assert!(trusting.ensure_topology(&billing()).await.unwrap().is_as_wanted());
    assert_eq!(trusting.check_topology(&billing()).await.unwrap(), TopologyReport::default());
}

#[tokio::test]
async fn a_busy_service_is_asked_again_when_it_says_so() {
    let busy =
        answer("429 Too Many Requests", "Retry-After: 1\r\n", "<Error><Detail>throttled</Detail></Error>");
    let restarting = answer("503 Service Unavailable", "", "");
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<entry";
    let missing = answer("200 OK", "", "<feed xmlns=\"http://www.w3.org/2005/Atom\"></feed>");
    let door = Door::saying(&[&busy, &restarting, half, &missing]).await;
    let began = Instant::now();
    let report = at(CONNECTION_STRING, &door.url).check_topology(&billing()).await.unwrap();
    assert_eq!(report.missing.len(), 2, "{report}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it had asked for a second");
    let asked = door.asked();
    assert_eq!(asked.len(), 4);
    assert!(
        asked.iter().all(|asked| asked.starts_with("GET /orders?api-version=2021-05 HTTP/1.1\r\n")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn one_that_stays_busy_or_silent_is_given_up() {
    let busy =
        answer("503 Service Unavailable", "Retry-After: 60\r\n", "<Error><Detail>moving</Detail></Error>");
    for said in [busy.as_str(), ""] {
        let door = Door::saying(&[said]).await;
        let began = Instant::now();
        let broker = at(CONNECTION_STRING, &door.url).timeout(Duration::from_secs(2));
        let error = broker.ensure_topology(&billing()).await.unwrap_err();
        assert!(matches!(error, TopologyError::Unavailable { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_no_secret(&error);
    }
    let nobody = at(CONNECTION_STRING, "http://127.0.0.1:1").timeout(Duration::from_secs(1));
    let error = nobody.check_topology(&billing()).await.unwrap_err();
    assert!(error.to_string().starts_with("http://127.0.0.1:1 is not available: "), "{error}");
    assert!(error.to_string().contains("refused"), "the cause is told: {error}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_not_repeated() {
    let missing = answer("404 Not Found", "", "");
    let full = answer(
        "403 Forbidden",
        "",
        "<Error><Code>403</Code><Detail>SubCode=40301. Too many.</Detail></Error>",
    );
    let door = Door::saying(&[&missing, &full]).await;
    let error = at(CONNECTION_STRING, &door.url).ensure_topology(&billing()).await.unwrap_err();
    let TopologyError::Refused { asked, status, reason } = &error else { panic!("{error}") };
    assert_eq!((status, reason.as_str()), (&403, "SubCode=40301. Too many."));
    assert_eq!(*asked, format!("PUT {}/orders", door.url));
    assert_eq!(door.asked().len(), 2);
    assert_no_secret(&error);
}

#[tokio::test]
async fn what_is_not_service_bus_is_told() {
    let page = answer("200 OK", "Content-Type: text/html\r\n", "<html><br>Please log in</html>");
    let door = Door::saying(&[&page]).await;
    let error = at(CONNECTION_STRING, &door.url).check_topology(&billing()).await.unwrap_err();
    assert!(matches!(error, TopologyError::Answer { .. }), "{error}");
}

#[tokio::test]
async fn names_are_looked_at_before_anything_is_asked() {
    let mut topology = billing();
    topology.topic("order events");
    topology.subscribe("orders", &"b".repeat(51), crate::events(&["a"]), false);
    let nobody = at(CONNECTION_STRING, "http://127.0.0.1:1");
    let error = nobody.ensure_topology(&topology).await.unwrap_err();
    let TopologyError::Names { problems } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 2, "{error}");
}
