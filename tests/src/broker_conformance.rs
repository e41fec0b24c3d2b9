//! What every broker must do, as functions over a [`Place`]: a publishing and a subscribing service, each with its own
//! database, exchange events over it.
//!
//! A broker takes part with a type that implements [`Place`] and a call of
//! `broker_conformance!`.

use std::future::Future;

use distributed_events::{
    Broker, BusBuilder, DistributedEvent, EventContext, EventId, HandlerError, HandlerSettings,
    PublishOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::eventually::eventually;
use crate::service::{Database, Running, quick};

pub mod contents;
pub mod order;
pub mod outages;
pub mod routing;

/// Where a broker can be had.
pub trait Place: Sized + Send + Sync {
    /// What a bus is given.
    type Broker: Broker + 'static;

    /// The longest text that an event can carry over it, in bytes.
    const LARGEST: usize = 1 << 20;

    /// Whether it keeps delayed events itself.
    const SCHEDULES: bool = false;

    /// Whether it keeps the order of sessions; where it can't, handlers have to say that they do without.
    const SESSIONS: bool = true;

    /// A broker that no other test uses.
    fn fresh() -> impl Future<Output = Self> + Send;

    /// That broker, once more: each bus of the place gets one.
    fn broker(&self) -> Self::Broker;
}

/// An event of the cases, on the default topic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Noted {
    /// What the handler writes down.
    pub text: String,
    /// Its session.
    pub session: Option<String>,
}

impl Noted {
    /// Without a session.
    pub fn new(text: impl ToString) -> Self {
        Self { text: text.to_string(), session: None }
    }

    /// In a session.
    pub fn of(session: &str, text: impl ToString) -> Self {
        Self { text: text.to_string(), session: Some(session.to_owned()) }
    }
}

impl DistributedEvent for Noted {
    const NAME: &'static str = "test.noted";
    const HAS_SESSION: bool = true;
    const MAX_SIZE: usize = 2 * 1024 * 1024;

    fn session_id(&self) -> Option<String> {
        self.session.clone()
    }
}

/// A handler's settings on a place.
pub fn settings<P: Place>(subscription: &'static str) -> HandlerSettings {
    let settings = HandlerSettings::new(subscription);
    if P::SESSIONS { settings } else { settings.unordered() }
}

/// What was seen, in an order that can be compared: its own where sessions keep it.
pub(crate) fn in_order<P: Place, T: Ord>(mut seen: Vec<T>) -> Vec<T> {
    if !P::SESSIONS {
        seen.sort();
    }
    seen
}

/// A handler that writes a text to `effects`.
pub fn noting<E: DistributedEvent>(
    builder: BusBuilder<Sqlite>,
    subscription: &'static str,
    text: fn(&E, &EventContext) -> String,
) -> BusBuilder<Sqlite> {
    noting_with(builder, HandlerSettings::new(subscription), text)
}

/// The same with settings.
pub fn noting_with<E: DistributedEvent>(
    builder: BusBuilder<Sqlite>,
    settings: HandlerSettings,
    text: fn(&E, &EventContext) -> String,
) -> BusBuilder<Sqlite> {
    builder.on(settings, move |event: E, tx, context| {
        Box::pin(async move { note(tx, &text(&event, context)).await })
    })
}

/// Writes a text to `effects`.
///
/// # Errors
/// When the database refuses.
pub async fn note(tx: &mut Transaction<'_, Sqlite>, text: &str) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)").bind(text).execute(&mut **tx).await?;
    Ok(())
}

/// Publishes in a transaction of its own, which is committed without a wake-up.
pub async fn publish<E: DistributedEvent>(pool: &SqlitePool, event: &E) -> EventId {
    publish_with(pool, event, PublishOptions::new()).await
}

/// The same with options.
pub async fn publish_with<E: DistributedEvent>(
    pool: &SqlitePool,
    event: &E,
    options: PublishOptions,
) -> EventId {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let id = event.publish_with(&mut tx, options).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// Two services over one broker: one publishes, one subscribes, each with its own database.
pub(crate) struct Pair<P> {
    place: P,
    from: Database,
    to: Database,
}

impl<P: Place> Pair<P> {
    async fn new() -> Self {
        Self { place: P::fresh().await, from: Database::new().await, to: Database::new().await }
    }

    /// The publishing service, running.
    fn publisher(&self) -> Running {
        Running::start(quick(&self.from.pool).broker(self.place.broker()).build().unwrap())
    }

    /// A builder of the subscribing service.
    fn builder(&self) -> BusBuilder<Sqlite> {
        quick(&self.to.pool).broker(self.place.broker())
    }

    /// The subscribing service, running, with one handler that writes the texts of [`Noted`] down.
    fn subscriber(&self) -> Running {
        Running::start(
            noting_with(self.builder(), settings::<P>("audit"), |event: &Noted, _| event.text.clone())
                .build()
                .unwrap(),
        )
    }

    /// Waits for so many effects.
    async fn effects(&self, count: usize) -> Vec<String> {
        effects(&self.to, count).await
    }

    /// Waits until nothing is pending in the publisher's outbox but what is delayed.
    async fn all_sent(&self) {
        let sql = "SELECT COUNT(*) FROM outbox WHERE status = 'pending' AND deliver_at IS NULL";
        eventually("all is sent", || self.from.number(sql), |pending| *pending == 0).await;
    }
}

/// Waits for so many effects.
pub async fn effects(database: &Database, count: usize) -> Vec<String> {
    let what = format!("{count} effects");
    eventually(&what, || database.effects(), |effects| effects.len() >= count).await
}

/// What a killed instance left behind runs out at once: its leases, and the word that it lives.
pub async fn bury(database: &Database) {
    for sql in [
        "UPDATE distributed_events_leases SET until = 0",
        "UPDATE distributed_events_instances SET until = 0",
    ] {
        sqlx::query(sql).execute(&database.pool).await.unwrap();
    }
}

/// Stamps out one test for each case on a place.
#[macro_export]
macro_rules! broker_conformance {
    ($place:ty) => {
        $crate::broker_conformance! { @cases ($place)
            routing: every_subscription_gets_every_event_it_takes, an_alias_is_received_under_its_old_name,
                topics_are_apart_and_the_default_topic_is_one, nothing_of_a_rolled_back_transaction_is_delivered,
                a_copy_sent_again_is_dropped;
            order: a_session_is_handled_in_order, a_waiting_session_holds_up_no_other,
                a_delayed_event_waits_for_its_time_and_blocks_nobody,
                two_instances_of_a_subscriber_share_its_events;
            contents: everything_about_an_event_arrives, every_plane_of_unicode_arrives, the_largest_events_arrive,
                a_time_to_live_travels_with_its_event, an_expired_event_is_not_handled_and_not_lost;
            outages: a_subscriber_that_was_down_gets_everything_in_order,
                a_publisher_that_was_down_sends_everything_once, a_killed_subscriber_misses_nothing;
        }
    };
    (@cases ($place:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::broker_conformance::$module::$case::<$place>().await;
            })+
        })+
    };
}
