//! What arrives of an event: all of it.

use std::time::Duration;

use distributed_events::{Correlation, DistributedEvent, EventContext, PublishOptions};
use serde::{Deserialize, Serialize};

use super::{Noted, Pair, Place, in_order, noting_with, publish, publish_with, settings};
use crate::eventually::eventually;
use crate::service::Running;

#[derive(Serialize, Deserialize)]
struct Versioned {
    text: String,
}

impl DistributedEvent for Versioned {
    const NAME: &'static str = "test.versioned";
    const VERSION: u32 = 3;
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some("the session".to_owned())
    }
}

fn describe(event: &Versioned, context: &EventContext) -> String {
    let headers: Vec<_> = ["tenant", "x-Empty"].iter().map(|name| context.header(name)).collect();
    format!(
        "{} {} v{} {:?} {:?} {:?} {headers:?} {:?} {}",
        context.id(),
        context.name(),
        context.version(),
        context.session_id(),
        context.correlation_id(),
        context.causation_id(),
        context.header("traceparent"),
        event.text,
    )
}

pub async fn everything_about_an_event_arrives<P: Place>() {
    let pair = Pair::<P>::new().await;
    let builder = noting_with(pair.builder(), settings::<P>("audit"), describe);
    let builder = noting_with(builder, settings::<P>("audit"), |event: &Noted, context| {
        format!("{} {:?} {:?}", event.text, context.session_id(), context.causation_id())
    });
    let (publisher, subscriber) = (pair.publisher(), Running::start(builder.build().unwrap()));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = PublishOptions::new()
        .header("tenant", "ägypten \u{1f3db}")
        .header("x-Empty", "")
        .header("traceparent", trace);
    let correlation = Correlation::new("flow 1").caused_by("its cause");
    let event = Versioned { text: "all".to_owned() };
    let id = correlation.scope(publish_with(&pair.from.pool, &event, options)).await;
    let first = pair.effects(1).await;
    publish(&pair.from.pool, &Noted::new("bare")).await;
    let second = pair.effects(2).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    let expected = format!(
        "{id} test.versioned v3 Some(\"the session\") Some(\"flow 1\") Some(\"its cause\") \
         [Some(\"ägypten \u{1f3db}\"), Some(\"\")] Some({trace:?}) all"
    );
    assert_eq!(first, [expected]);
    assert_eq!(second[1], "bare None None", "no session is none, also where the broker needs one");
}

pub async fn every_plane_of_unicode_arrives<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let mut text: String = (0..=16_u32).filter_map(|plane| char::from_u32((plane << 16) + 0xfd)).collect();
    text.push_str("\u{0} \u{7} \r\n\t\"\\ \u{2028} \u{feff} e\u{301} \u{202e}rtl \u{1f469}\u{200d}\u{1f680} \u{fffd} \u{10fffd}");
    publish(&pair.from.pool, &Noted::of("сессия \u{1f980}", &text)).await;
    let effects = pair.effects(1).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert_eq!(effects, [text]);
    let session: String =
        sqlx::query_scalar("SELECT session_id FROM inbox").fetch_one(&pair.to.pool).await.unwrap();
    assert_eq!(session, "сессия \u{1f980}");
}

pub async fn the_largest_events_arrive<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    // Next to small ones, so that batches have to be cut by bytes.
    let texts: Vec<_> = (0..6)
        .map(|number| number.to_string().repeat(if number % 2 == 0 { P::LARGEST } else { 1 }))
        .collect();
    for text in &texts {
        publish(&pair.from.pool, &Noted::of("s", text)).await;
    }
    let effects = in_order::<P, _>(pair.effects(6).await);
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    assert!(effects == texts, "lengths {:?}", effects.iter().map(String::len).collect::<Vec<_>>());
}

pub async fn a_time_to_live_travels_with_its_event<P: Place>() {
    let pair = Pair::<P>::new().await;
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let hour = Duration::from_secs(3600);
    publish_with(&pair.from.pool, &Noted::new("mortal"), PublishOptions::new().ttl(hour)).await;
    publish(&pair.from.pool, &Noted::new("immortal")).await;
    pair.effects(2).await;
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
    let there = pair.to.number("SELECT sum(expires_at) FROM inbox WHERE expires_at IS NOT NULL").await;
    let here = pair.from.number("SELECT sum(expires_at) FROM outbox WHERE expires_at IS NOT NULL").await;
    assert!((there - here).abs() < 60_000, "{here} became {there}");
}

/// Wherever it is when its time comes: in the outbox, at the broker or in the inbox.
pub async fn an_expired_event_is_not_handled_and_not_lost<P: Place>() {
    let pair = Pair::<P>::new().await;
    pair.subscriber().stop().await.unwrap();
    let publisher = pair.publisher();
    publish_with(&pair.from.pool, &Noted::new("late"), PublishOptions::new().ttl(Duration::from_secs(1)))
        .await;
    pair.all_sent().await;
    let over = "SELECT expires_at <= unixepoch('subsec') * 1000 FROM outbox";
    eventually("its time is over", || pair.from.number(over), |over| *over == 1).await;
    let subscriber = pair.subscriber();
    publish(&pair.from.pool, &Noted::new("after")).await;
    let dead = || async {
        pair.from
            .number("SELECT COUNT(*) FROM outbox WHERE status = 'dead' AND last_error LIKE '%expired%'")
            .await
            + pair
                .to
                .number("SELECT COUNT(*) FROM inbox WHERE status = 'dead' AND last_error LIKE '%expired%'")
                .await
    };
    eventually("dead", dead, |dead| *dead == 1).await;
    assert_eq!(pair.effects(1).await, ["after"]);
    publisher.stop().await.unwrap();
    subscriber.stop().await.unwrap();
}
