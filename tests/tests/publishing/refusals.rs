//! What can't travel is refused inside the transaction, with the figure and the limit.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use distributed_events::{DistributedEvent, PublishError, PublishOptions};
use serde::{Deserialize, Serialize};
use tests::service::Database;

use super::{Happened, begin, happened};

#[derive(Serialize, Deserialize)]
struct Sized<const MAX: usize>(String);

impl<const MAX: usize> DistributedEvent for Sized<MAX> {
    const NAME: &'static str = "publishing.sized";
    const MAX_SIZE: usize = MAX;
}

/// Publishes in a transaction that goes on with another event, commits, and counts.
async fn refused<E: DistributedEvent>(event: E, options: PublishOptions) -> PublishError {
    let database = Database::new().await;
    let mut tx = begin(&database.pool).await;
    let error = event.publish_with(&mut tx, options).await.expect_err(E::NAME);
    happened(1).publish(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM outbox").await, 1, "{error}");
    error
}

async fn accepted<E: DistributedEvent>(event: E, options: PublishOptions) {
    let database = Database::new().await;
    let mut tx = begin(&database.pool).await;
    event.publish_with(&mut tx, options).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM outbox").await, 1);
}

fn assert_says(error: &PublishError, texts: &[&str]) {
    let said = error.to_string();
    assert!(texts.iter().all(|text| said.contains(text)), "{said} lacks one of {texts:?}");
}

async fn too_big<const MAX: usize>() {
    let error = refused(Sized::<MAX>("x".repeat(MAX)), PublishOptions::new()).await;
    let PublishError::TooBig { size, limit, .. } = error else { panic!("{error}") };
    assert_eq!(limit, MAX);
    assert_says(&error, &["publishing.sized", &size.to_string(), &limit.to_string(), "max_size"]);
    let over = size - limit;
    accepted(Sized::<MAX>("x".repeat(MAX - over)), PublishOptions::new()).await;
    let error = refused(Sized::<MAX>("x".repeat(MAX - over + 1)), PublishOptions::new()).await;
    assert!(matches!(error, PublishError::TooBig { size, .. } if size == MAX + 1), "{error}");
    let headers = PublishOptions::new().header("a", "b");
    assert!(matches!(
        refused(Sized::<MAX>("x".repeat(MAX - over)), headers).await,
        PublishError::TooBig { .. }
    ));
}

#[tokio::test]
async fn an_event_above_its_size_limit() {
    too_big::<1000>().await;
    too_big::<{ 240 * 1024 }>().await;
    assert_eq!(Happened::MAX_SIZE, 240 * 1024, "256 KB less room for headers");
}

#[tokio::test]
async fn a_session_id_that_can_not_be_one() {
    let of = |session: &str| Happened { number: 1, session: Some(session.to_owned()) };
    let options = PublishOptions::new;
    for (session, says) in [
        ("x".repeat(129), ["129 characters", "limit is 128"]),
        (String::new(), ["session id", "empty"]),
        ("~07".to_owned(), ["`~07`", "reserved"]),
        ("~31".to_owned(), ["`~31`", "reserved"]),
        ("a\0b".to_owned(), ["session id", "NUL"]),
    ] {
        assert_says(&refused(of(&session), options()).await, &says);
    }
    for session in ["x".repeat(128), "ß".repeat(128), "~32".to_owned(), "~7".to_owned(), "~007".to_owned()] {
        accepted(of(&session), options()).await;
    }
}

#[tokio::test]
async fn headers_that_can_not_travel() {
    let with = |name: &str, value: &str| PublishOptions::new().header(name, value);
    let long = "v".repeat(32 * 1024);
    for (options, says) in [
        (with("", "v"), ["header name", "empty"]),
        (with(&"n".repeat(129), "v"), ["129 characters", "limit is 128"]),
        (with("two words", "v"), ["`two words`", "visible ASCII"]),
        (with("größe", "v"), ["größe", "visible ASCII"]),
        (with("n\0", "v"), ["header name", "NUL"]),
        (with("n", "a\0b"), ["`n`", "NUL"]),
        (with("n", &format!("{long}v")), ["32769 bytes", "limit is 32768"]),
        (with("a", &long).header("b", &long[..30 * 1024]), ["bytes together", "limit is 61440"]),
    ] {
        assert_says(&refused(happened(1), options).await, &says);
    }
    accepted(happened(1), with(&"n".repeat(128), "größe").header("n", &long)).await;
    accepted(happened(1), (0..100).fold(PublishOptions::new(), |all, n| all.header(format!("h{n}"), "v")))
        .await;
}

#[derive(Serialize, Deserialize)]
struct Named<const WHICH: u8>;

const LONG: &str = "x2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    01234567890123456789012345678901234567890";

impl<const WHICH: u8> DistributedEvent for Named<WHICH> {
    const NAME: &'static str = match WHICH {
        0 => LONG,
        3 => "",
        _ => "publishing.named",
    };
    const TOPIC: Option<&'static str> = if WHICH == 1 { Some(LONG) } else { None };
    const LANE: &'static str = if WHICH == 2 { LONG } else { "default" };
}

#[tokio::test]
async fn names_that_are_too_long_or_empty() {
    assert!(LONG.len() > 128);
    let figure = format!("{} characters", LONG.len());
    let says = |what| ["limit is 128", figure.as_str(), what];
    assert_says(&refused(Named::<0>, PublishOptions::new()).await, &says("event name"));
    assert_says(&refused(Named::<1>, PublishOptions::new()).await, &says("topic"));
    assert_says(&refused(Named::<2>, PublishOptions::new()).await, &says("lane"));
    assert_says(&refused(Named::<3>, PublishOptions::new()).await, &["event name", "empty"]);
    let correlation = PublishOptions::new().correlation_id(LONG);
    assert_says(&refused(happened(1), correlation).await, &says("correlation id"));
}

#[tokio::test]
async fn times_that_nothing_can_hold() {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let options = PublishOptions::new;
    assert_says(&refused(happened(1), options().delay(century)).await, &["delay", "ten years"]);
    let at = SystemTime::now() + century;
    assert_says(&refused(happened(1), options().deliver_at(at)).await, &["time of delivery", "ten years"]);
    assert_says(&refused(happened(1), options().ttl(century)).await, &["time to live", "ten years"]);
    assert_says(&refused(happened(1), options().ttl(Duration::ZERO)).await, &["time to live", "zero"]);
    accepted(happened(1), options().deliver_at(SystemTime::UNIX_EPOCH)).await;
}

#[derive(Serialize, Deserialize)]
struct Unencodable(BTreeMap<(u8, u8), String>);

impl DistributedEvent for Unencodable {
    const NAME: &'static str = "publishing.unencodable";
}

#[tokio::test]
async fn an_event_that_is_no_json() {
    let event = Unencodable(BTreeMap::from([((1, 2), "a".to_owned())]));
    let error = refused(event, PublishOptions::new()).await;
    let mut said = String::new();
    write!(said, "{error}").unwrap();
    assert!(said.contains("publishing.unencodable") && said.contains("key must be a string"), "{said}");
}
