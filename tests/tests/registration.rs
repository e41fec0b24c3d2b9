//! What a bus refuses to be built or started with, and in which words.

use std::time::Duration;

use distributed_events::inbox::handler::{Declaration, DeclaredHandler, HandlerScope, StateKey};
use distributed_events::{
    BusBuilder, BusError, DistributedEvent, EventBus, EventContext, Handler, HandlerError, HandlerSettings,
    InboxSettings, LocalBroker, OutboxSettings, RetryPolicy,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use tests::eventually::eventually;
use tests::memory_broker::MemoryBroker;
use tests::service::{Database, Running, quick};

#[derive(Serialize, Deserialize)]
struct Placed;

impl DistributedEvent for Placed {
    const NAME: &'static str = "registration.placed";
}

/// Received under the same name as [`Aliased`].
#[derive(Serialize, Deserialize)]
struct Renamed;

impl DistributedEvent for Renamed {
    const NAME: &'static str = "registration.renamed";
    const ALIASES: &'static [&'static str] = &["registration.old"];
}

#[derive(Serialize, Deserialize)]
struct Aliased;

impl DistributedEvent for Aliased {
    const NAME: &'static str = "registration.aliased";
    const ALIASES: &'static [&'static str] = &["registration.old"];
}

/// Another version of [`Placed`].
#[derive(Serialize, Deserialize)]
struct PlacedToo;

impl DistributedEvent for PlacedToo {
    const NAME: &'static str = "registration.placed";
    const VERSION: u32 = 2;
}

#[derive(Serialize, Deserialize)]
struct Urgent;

impl DistributedEvent for Urgent {
    const NAME: &'static str = "registration.urgent";
    const LANE: &'static str = "critical";
}

#[derive(Serialize, Deserialize)]
struct Ordered;

impl DistributedEvent for Ordered {
    const NAME: &'static str = "registration.ordered";
    const HAS_SESSION: bool = true;
}

struct Ready<E>(HandlerSettings, std::marker::PhantomData<fn() -> E>);

impl<E: DistributedEvent> Handler<Sqlite> for Ready<E> {
    type Event = E;

    fn settings(&self) -> HandlerSettings {
        self.0
    }

    async fn handle(
        &self,
        _event: E,
        _tx: &mut Transaction<'_, Sqlite>,
        _context: &EventContext,
    ) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn ready<E: DistributedEvent>(settings: HandlerSettings) -> Ready<E> {
    Ready(settings, std::marker::PhantomData)
}

const BILLING: HandlerSettings = HandlerSettings::new("billing");

/// Needs a state that no bus has.
struct Stateful;

struct Clockwork;

impl DeclaredHandler<Sqlite> for Stateful {
    type Event = Placed;

    const DECLARATION: Declaration = Declaration {
        name: "stateful",
        module: "shop::billing",
        file: "billing.rs",
        line: 12,
        settings: BILLING,
    };

    fn states() -> Vec<StateKey> {
        vec![StateKey::of::<Clockwork>()]
    }

    fn call<'a>(
        _event: Placed,
        _tx: &'a mut Transaction<'_, Sqlite>,
        _scope: HandlerScope<'a>,
    ) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A pool that nothing is asked of.
fn builder() -> BusBuilder<Sqlite> {
    let pool = sqlx::SqlitePool::connect_lazy("sqlite:/nowhere/at/all.db").unwrap();
    EventBus::builder(pool)
}

fn local() -> BusBuilder<Sqlite> {
    builder().broker(LocalBroker::new())
}

fn problems(builder: BusBuilder<Sqlite>) -> Vec<String> {
    match builder.build() {
        Err(BusError::Configuration { problems }) => problems,
        other => panic!("{other:?}"),
    }
}

/// Exactly one problem, which says all of this.
#[track_caller]
fn assert_refused(builder: BusBuilder<Sqlite>, texts: &[&str]) {
    let problems = problems(builder);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let lacks: Vec<_> = texts.iter().filter(|text| !problems[0].contains(**text)).collect();
    assert!(lacks.is_empty(), "{} lacks {lacks:?}", problems[0]);
}

#[tokio::test]
async fn a_bus_of_defaults_is_fine() {
    local().build().unwrap();
    local().handler_value(ready::<Placed>(BILLING)).publishes::<Renamed>().build().unwrap();
    local().lane("critical", LocalBroker::new()).publishes::<Urgent>().build().unwrap();
}

#[tokio::test]
async fn a_bus_without_a_broker() {
    assert_refused(builder(), &["no broker", ".broker(LocalBroker::new())"]);
}

#[tokio::test]
async fn a_lane_without_a_broker_or_with_two() {
    let says = ["registration.urgent", "lane critical", ".lane(\"critical\", broker)"];
    assert_refused(local().publishes::<Urgent>(), &says);
    assert_refused(local().handler_value(ready::<Urgent>(BILLING)), &says);
    assert_refused(local().broker(LocalBroker::new()), &["lane default", "two brokers"]);
}

#[tokio::test]
async fn a_subscription_to_ignore_events_of_that_nobody_serves() {
    assert_refused(
        local().ignore_unknown_events("biling"),
        &["ignore_unknown_events(\"biling\")", "mend the name"],
    );
}

#[tokio::test]
async fn a_state_that_nobody_gave() {
    let says = ["shop::billing::stateful (billing.rs:12)", "State<", "Clockwork", ".state(value)"];
    assert_refused(local().handler::<Stateful>(), &says);
}

#[tokio::test]
async fn the_same_handler_twice() {
    let twice = || local().handler_value(ready::<Placed>(BILLING)).handler_value(ready::<Placed>(BILLING));
    assert_refused(twice(), &["Ready<registration::Placed>", "registered twice"]);
    // In two subscriptions it is two handlers.
    let other = HandlerSettings::new("audit");
    local().handler_value(ready::<Placed>(BILLING)).handler_value(ready::<Placed>(other)).build().unwrap();
}

#[tokio::test]
async fn handlers_of_one_event_that_disagree() {
    let with = |settings: HandlerSettings| {
        local()
            .handler_value(ready::<Placed>(BILLING))
            .on(settings, |_event: Placed, _tx, _context| Box::pin(async { Ok(()) }))
    };
    with(BILLING).build().unwrap();
    let says = ["registration.placed", "billing", "one transaction", "agree on retry, batch and timeout"];
    assert_refused(with(BILLING.retry(RetryPolicy::default().attempts(2))), &says);
    assert_refused(with(BILLING.batch(10)), &says);
    assert_refused(with(BILLING.timeout(Duration::from_secs(1))), &says);
    let ordered = |settings: HandlerSettings| {
        let closure = local().handler_value(ready::<Ordered>(BILLING.unordered()));
        closure.on(settings, |_event: Ordered, _tx, _context| Box::pin(async { Ok(()) }))
    };
    ordered(BILLING.unordered()).build().unwrap();
    assert_refused(ordered(BILLING), &["Ready<registration::Ordered>", "says `unordered`", "say it in both"]);
    let versions = local().handler_value(ready::<Placed>(BILLING)).handler_value(ready::<PlacedToo>(BILLING));
    assert_refused(versions, &["registration.placed", "versions 1 and 2"]);
}

#[tokio::test]
async fn two_events_received_under_one_name() {
    let both = local().handler_value(ready::<Renamed>(BILLING)).handler_value(ready::<Aliased>(BILLING));
    assert_refused(both, &["billing", "registration.old", "Aliased"]);
}

#[tokio::test]
async fn a_subscription_whose_name_can_not_be_one() {
    let too_long = "123456789012345678901234567890123456789012345678901";
    for (name, problem) in
        [("", "1 to 50 characters"), (too_long, "51 characters"), ("a\0b", "'\\0'"), ("a/b", "'/'")]
    {
        let bus = local().handler_value(ready::<Placed>(HandlerSettings::new(name)));
        assert_refused(bus, &["the subscription's name", problem]);
    }
    let longest = "12345678901234567890123456789012345678901234567890";
    local().handler_value(ready::<Placed>(HandlerSettings::new(longest))).build().unwrap();
}

#[tokio::test]
async fn a_handlers_own_settings_that_can_not_work() {
    let with = |settings| local().handler_value(ready::<Placed>(settings));
    assert_refused(with(BILLING.batch(0)), &["Ready<", "batch must be at least 1"]);
    assert_refused(with(BILLING.timeout(Duration::ZERO)), &["Ready<", "timeout must be above zero"]);
    let policy = RetryPolicy::default;
    for (policy, says) in [
        (policy().attempts(0), "attempts must be at least 1"),
        (policy().multiplier(0.5), "multiplier must be at least 1"),
        (policy().multiplier(f64::NAN), "multiplier must be at least 1"),
        (policy().jitter(1.5), "jitter must be between 0 and 1"),
        (policy().jitter(f64::NAN), "jitter must be between 0 and 1"),
        (policy().initial(Duration::from_secs(600)), "longer than max"),
        (policy().max(Duration::MAX), "at most 365 days"),
    ] {
        assert_refused(with(BILLING.retry(policy)), &["Ready<", says]);
        assert_refused(local().inbox(InboxSettings::default().retry(policy)), &[says]);
    }
}

#[tokio::test]
async fn timeouts_under_which_a_lease_could_not_be_renewed() {
    let second = Duration::from_secs(1);
    let handling = || local().handler_value(ready::<Placed>(BILLING));
    let says = ["9s", "busy_timeout", "lower the handler's timeout", "lease_time"];
    assert_refused(handling().inbox(InboxSettings::default().handler_timeout(second * 9)), &says);
    let slow = local().handler_value(ready::<Placed>(BILLING.timeout(second * 20)));
    assert_refused(slow, &["20s", "lower the handler's timeout"]);
    assert_refused(handling().busy_timeout(second * 10), &["10s", "third of the shorter lease_time", "30s"]);
    assert_refused(handling().busy_timeout(second * 5), &["5s", "lower the handler's timeout"]);
    // The shorter lease of the two counts.
    assert_refused(handling().outbox(OutboxSettings::default().lease_time(second * 6)), &["5s", "1.8s"]);
    let longer = InboxSettings::default().lease_time(second * 60).handler_timeout(second * 15);
    handling().inbox(longer).outbox(OutboxSettings::default().lease_time(second * 60)).build().unwrap();
}

#[tokio::test]
async fn keys_that_do_not_outlive_a_copy_sent_again() {
    let days = |count: u64| Duration::from_secs(count * 24 * 3600);
    let inbox = |keep| InboxSettings::default().keep_bodies(days(1)).keep_keys(keep);
    let says = ["keep_keys is 14.0 days", "sent again for 15.0 days", "run twice"];
    assert_refused(local().inbox(inbox(days(14))), &says);
    local().inbox(inbox(days(15))).build().unwrap();
    assert_refused(local().longest_delay(days(30)), &["keep_keys is 30.0 days", "38.0 days"]);
    assert_refused(local().outbox(OutboxSettings::default().keep_sent(days(25))), &["33.0 days"]);
    // Also where sent rows are not kept: an event may be late by its delay.
    let deleting = || local().outbox(OutboxSettings::default().delete_sent());
    assert_refused(deleting().inbox(inbox(days(7))), &["keep_keys is 7.0 days", "8.0 days"]);
    deleting().inbox(inbox(days(8))).build().unwrap();
}

#[tokio::test]
async fn settings_of_the_inbox_that_can_not_work() {
    let (zero, hour) = (Duration::ZERO, Duration::from_secs(3600));
    let inbox = InboxSettings::default;
    for (settings, says) in [
        (inbox().poll_interval(zero), "inbox poll_interval is zero"),
        (inbox().poll_interval(hour), "inbox poll_interval is above 60 s"),
        (inbox().workers(0), "inbox workers is 0"),
        (inbox().receive_batch(0), "inbox receive_batch is 0"),
        (inbox().receive_batch(2001), "inbox receive_batch is above 2,000"),
        (inbox().lease_time(Duration::from_millis(999)), "inbox lease_time is below 1 s"),
        (inbox().lease_time(hour), "inbox lease_time is above 10 minutes"),
        (inbox().backoff(zero, hour), "inbox backoff"),
        (inbox().backoff(hour, Duration::from_secs(1)), "inbox backoff"),
        (inbox().keep_bodies(hour * 24 * 31), "keep_bodies is longer than keep_keys"),
    ] {
        assert_refused(local().inbox(settings), &[says]);
    }
}

#[tokio::test]
async fn settings_of_the_outbox_that_can_not_work() {
    let (zero, hour) = (Duration::ZERO, Duration::from_secs(3600));
    let outbox = OutboxSettings::default;
    for (settings, says) in [
        (outbox().poll_interval(zero), "outbox poll_interval is zero"),
        (outbox().poll_interval(hour), "outbox poll_interval is above 60 s"),
        (outbox().batch_size(0), "outbox batch_size is 0"),
        (outbox().in_flight(0), "outbox in_flight is 0"),
        (outbox().in_flight(257), "outbox in_flight is above 256"),
        (outbox().lease_time(Duration::from_millis(999)), "outbox lease_time is below 1 s"),
        (outbox().lease_time(hour), "outbox lease_time is above 10 minutes"),
        (outbox().backoff(zero, hour), "outbox backoff"),
        (outbox().backoff(hour, Duration::from_secs(1)), "outbox backoff"),
    ] {
        assert_refused(local().outbox(settings), &[says]);
    }
}

#[tokio::test]
async fn all_problems_are_told_at_once() {
    let bus = builder()
        .handler::<Stateful>()
        .handler_value(ready::<Placed>(BILLING.batch(0)))
        .handler_value(ready::<Urgent>(HandlerSettings::new("")))
        .inbox(InboxSettings::default().workers(0).poll_interval(Duration::ZERO))
        .outbox(OutboxSettings::default().batch_size(0))
        .longest_delay(Duration::MAX);
    let error = bus.build().unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "the bus can't be built:");
    assert!(lines[1..].iter().all(|line| line.starts_with("  - ")), "{error}");
    for text in [
        "no broker",
        "State<",
        "agree on",
        "batch must",
        "1 to 50",
        "workers",
        "inbox poll",
        "batch_size",
        "keep_keys",
    ] {
        assert!(lines[1..].iter().any(|line| line.contains(text)), "{error} lacks {text}");
    }
}

#[tokio::test]
async fn a_lane_that_a_live_instance_has_bound_to_another_broker_is_refused_at_start() {
    let database = Database::new().await;
    let first =
        Running::start(quick(&database.pool).broker(MemoryBroker::named("namespace-a")).build().unwrap());
    let leads =
        "SELECT COUNT(*) FROM distributed_events_leases WHERE name = 'outbox:default' AND owner IS NOT NULL";
    eventually("the first leads", || database.number(leads), |leads| *leads == 1).await;

    let second = quick(&database.pool).broker(MemoryBroker::named("namespace-b")).build().unwrap();
    let error = second.run_until(std::future::pending()).await.unwrap_err();
    assert!(matches!(&error, BusError::LaneBound { lane, bound, own }
        if lane == "default" && bound == "namespace-a" && own == "namespace-b"));
    let said = error.to_string();
    assert!(
        said.contains("namespace-a") && said.contains("namespace-b") && said.contains("same broker"),
        "{said}"
    );

    // The same broker is welcome, and once the first has stopped another one too.
    let same = quick(&database.pool).broker(MemoryBroker::named("namespace-a")).build().unwrap();
    same.run_until(std::future::ready(())).await.unwrap();
    first.stop().await.unwrap();
    second.run_until(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn a_bus_without_the_tables_names_the_migration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.db");
    let pool = tests::service::connect(&path, 2).await;
    let bus = quick(&pool).broker(LocalBroker::new()).build().unwrap();
    let error = bus.run_until(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("EventBus::migrate(&pool)") && error.contains("empty.db"), "{error}");
    EventBus::migrate(&pool).await.unwrap();
    bus.run_until(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn a_bus_whose_database_is_not_there_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("missing.db"));
    let pool = sqlx::sqlite::SqlitePoolOptions::new().connect_lazy_with(options);
    let bus = quick(&pool).broker(LocalBroker::new()).build().unwrap();
    let error = bus.run_until(std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("unable to open database file"), "{error}");
    assert!(!directory.path().join("missing.db").exists(), "no empty database is made of a mistyped path");
}
