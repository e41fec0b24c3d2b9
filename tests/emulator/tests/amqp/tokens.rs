//! Who is let in: tokens put to `$cbs`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_amqp::Value;
use serde_amqp::primitives::Uuid;
use servicebus_emulator::amqp::Limits;
use servicebus_emulator::sas::{Authority, KEY, KEY_NAME};
use sha2::Sha256;

use super::client::{CLOSE, Client, DETACH, DISPOSITION, TRANSFER};
use super::emulator::{Emulator, NOW};
use super::values::{code, data, get, map, part, rejected, section, source, string, target};

async fn checking(limits: Limits) -> Emulator {
    Emulator::with(limits, Authority::default()).await
}

/// A token for that resource, valid for so many seconds from now on.
fn sign(resource: &str, seconds: i64) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let expiry = i64::try_from(NOW.0 / 1000).unwrap() + seconds;
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={KEY_NAME}")
}

/// A request to `$cbs`.
fn request(id: Value, operation: &str, name: &str, kind: &str, token: Value) -> Vec<u8> {
    let properties = section(0x73, Value::List(vec![id]));
    let application = [("operation", operation), ("name", name), ("type", kind)];
    let application = application.map(|(key, value)| (string(key), string(value)));
    [properties, section(0x74, map(&application)), section(0x77, token)].concat()
}

/// Opens both links to `$cbs`, on the handles 100 and 101.
async fn cbs(client: &mut Client) {
    client.attach_sender(100, "$cbs").await;
    client.attach(101, true, source("$cbs", None), target("cbs-reply")).await;
    client.credit(101, 0, 1000, false).await;
}

/// Asks `$cbs`, and gives the status and the correlation id.
async fn ask(client: &mut Client, delivery: u32, request: &[u8]) -> (i32, Value) {
    client.transfer(100, delivery, request).await;
    let (mut answer, mut settled) = (None, false);
    while answer.is_none() || !settled {
        let frame = client.next().await;
        match frame.code {
            DISPOSITION => settled = code(&frame.fields[4]) == 0x24,
            TRANSFER => answer = Some(frame),
            _ => {}
        }
    }
    let answer = answer.unwrap();
    assert_eq!((answer.field(0), answer.field(4)), (&Value::Uint(101), &Value::Bool(true)), "settled");
    let application = part(&answer.payload, 0x74);
    let Some(Value::Int(status)) = get(&application, "status-code") else { panic!("{application:?}") };
    assert!(matches!(get(&application, "status-description"), Some(Value::String(text)) if !text.is_empty()));
    let Value::List(properties) = part(&answer.payload, 0x73) else { panic!() };
    (*status, properties.get(5).cloned().unwrap_or(Value::Null))
}

/// Puts a token and gives the status.
async fn put(client: &mut Client, name: &str, token: &str) -> i32 {
    let request = request(string("id"), "put-token", name, "servicebus.windows.net:sastoken", string(token));
    ask(client, 0, &request).await.0
}

#[tokio::test]
async fn answers_carry_the_requests_id_with_its_type() {
    let emulator = checking(Limits::default()).await;
    let mut client = emulator.begin().await;
    cbs(&mut client).await;
    let token = sign("sb://localhost/q", 60);
    for (delivery, id) in (0..).zip([
        string("text"),
        Value::Ulong(7),
        Value::Uuid(Uuid::from([7; 16])),
        super::values::binary(b"id"),
    ]) {
        for kind in ["servicebus.windows.net:sastoken", "jwt"] {
            let request = request(id.clone(), "put-token", "sb://localhost/q", kind, string(&token));
            assert_eq!(ask(&mut client, delivery, &request).await, (202, id.clone()));
        }
    }
}

#[tokio::test]
async fn only_a_good_token_for_the_entity_opens_it() {
    let emulator = checking(Limits::default()).await;
    let mut client = emulator.begin().await;
    cbs(&mut client).await;
    let good = sign("sb://localhost/q", 60);
    let forged = good.replace("sig=", "sig=A");
    for (name, token, status) in [
        ("sb://localhost/q", sign("sb://localhost/q", 0), 401),
        ("sb://localhost/q", sign("sb://localhost/t", 60), 401),
        ("sb://localhost/q", forged, 401),
        ("sb://localhost/q", String::from("eyJhbGciOiJub25lIn0.e30."), 401),
        ("sb://localhost/q", String::new(), 401),
        ("", good.clone(), 401),
    ] {
        assert_eq!(put(&mut client, name, &token).await, status, "{name} {token}");
    }
    for (receives, terminus) in [(false, "q"), (true, "q"), (false, "q/$management"), (true, "q/$management")]
    {
        let attach = client.attach(1, receives, source(terminus, None), target(terminus)).await;
        assert_eq!(attach.field(if receives { 5 } else { 6 }), &Value::Null);
        assert_eq!(client.expect(DETACH).await.condition(), "amqp:unauthorized-access");
        client.detach(1).await;
    }
    assert_eq!(put(&mut client, "sb://localhost/q", &good).await, 202);
    client.attach_sender(1, "q").await;
    client.attach_receiver(2, "Q/$DeadLetterQueue").await;
    client.attach_sender(3, "q/$management").await;
    client.attach(4, false, source("here", None), target("t")).await;
    assert_eq!(client.expect(DETACH).await.condition(), "amqp:unauthorized-access", "another entity");
    // Other operations are told apart, and another connection knows nothing of all this.
    let other = request(Value::Null, "frobnicate", "q", "jwt", string(&good));
    assert_eq!(ask(&mut client, 9, &other).await.0, 400);
    let mut stranger = emulator.begin().await;
    stranger.attach(1, false, source("here", None), target("q")).await;
    assert_eq!(stranger.expect(DETACH).await.condition(), "amqp:unauthorized-access");
}

#[tokio::test]
async fn the_key_itself_opens_everything() {
    let emulator = checking(Limits::default()).await;
    let mut client = emulator.connect().await;
    client.write(b"AMQP\x03\x01\x00\x00").await;
    client.read(8).await;
    client.sasl().await;
    client.init("PLAIN", Some(format!("\0{KEY_NAME}\0{KEY}").as_bytes())).await;
    client.sasl().await;
    client.write(b"AMQP\x00\x01\x00\x00").await;
    client.read(8).await;
    client.open().await;
    client.begin(0).await;
    client.attach_sender(0, "q").await;
    client.attach_receiver(1, "t/Subscriptions/u").await;
}

#[tokio::test]
async fn links_end_with_their_token_unless_another_came() {
    let emulator = checking(Limits::default()).await;
    let mut client = emulator.begin().await;
    cbs(&mut client).await;
    assert_eq!(put(&mut client, "sb://localhost/q", &sign("sb://localhost/q", 60)).await, 202);
    assert_eq!(put(&mut client, "sb://localhost/t", &sign("sb://localhost/t", 60)).await, 202);
    client.attach_sender(1, "q").await;
    client.attach_receiver(2, "q").await;
    client.attach_sender(3, "t").await;
    assert_eq!(put(&mut client, "sb://localhost/t", &sign("sb://localhost/t", 600)).await, 202);
    emulator.clock.advance(Duration::from_secs(61));
    let mut ended = Vec::new();
    for _ in 0..2 {
        let detach = client.expect(DETACH).await;
        assert_eq!(detach.condition(), "amqp:unauthorized-access");
        ended.push(format!("{:?}", detach.fields[0]));
    }
    ended.sort();
    assert_eq!(ended, ["Uint(1)", "Uint(2)"]);
    client.transfer(3, 0, &data(b"x")).await;
    assert_eq!(code(&client.expect(DISPOSITION).await.fields[4]), 0x24, "its token was renewed");
    // A new token opens new links, on the same connection.
    assert_eq!(put(&mut client, "sb://localhost/q", &sign("sb://localhost/q", 600)).await, 202);
    client.attach_sender(9, "q").await;
}

#[tokio::test]
async fn who_shows_no_token_in_time_is_sent_away() {
    let emulator = checking(Limits { authorization: Duration::from_millis(500), ..Limits::default() }).await;
    let mut client = emulator.begin().await;
    cbs(&mut client).await;
    assert_eq!(put(&mut client, "sb://localhost/q", "nonsense").await, 401);
    assert_eq!(client.expect(CLOSE).await.condition(), "amqp:unauthorized-access");
    client.ends().await;
    let mut client = emulator.begin().await;
    cbs(&mut client).await;
    assert_eq!(put(&mut client, "sb://localhost/q", &sign("sb://localhost/q", 60)).await, 202);
    client.attach_sender(1, "q").await;
    // Twice that time later it is still there: one that came after it has gone.
    let mut other = emulator.begin().await;
    other.expect(CLOSE).await;
    client.transfer(1, 0, &data(b"x")).await;
    assert_eq!(code(&client.expect(DISPOSITION).await.fields[4]), 0x24);
}

#[tokio::test]
async fn where_nothing_is_checked_nothing_is_asked() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(1, "q").await;
    cbs(&mut client).await;
    assert_eq!(put(&mut client, "sb://localhost/q", "nonsense").await, 202);
}

#[tokio::test]
async fn a_request_that_nobody_could_answer_is_rejected() {
    let emulator = checking(Limits::default()).await;
    let mut client = emulator.begin().await;
    client.attach_sender(100, "$cbs").await;
    client.transfer(100, 0, &request(Value::Null, "put-token", "q", "jwt", string("x"))).await;
    assert_eq!(rejected(&client.expect(DISPOSITION).await.fields[4]), "amqp:not-allowed");
    client.transfer(100, 1, b"garbage").await;
    assert_eq!(rejected(&client.expect(DISPOSITION).await.fields[4]), "amqp:decode-error");
}
