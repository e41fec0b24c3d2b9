//! One handler alone on one event, by `testing::TestBus`.

use std::time::{Duration, SystemTime};

use distributed_events::testing::{Outcome, TestBus};
use distributed_events::{
    BusBuilder, Correlation, DistributedEvent, EventContext, EventId, Handler, HandlerError, HandlerSettings,
    InboxSettings, PublishOptions, RetryPolicy, State, event_handler,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};

const DAY: Duration = Duration::from_secs(24 * 3600);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order)]
struct OrderPlaced {
    order: i64,
    card: String,
}

impl OrderPlaced {
    fn by(card: &str) -> Self {
        Self { order: 1, card: card.to_owned() }
    }
}

#[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(name = "billing.card-charged", topic = "charges")]
struct CardCharged {
    order: i64,
}

#[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(name = "billing.alarm", lane = "critical")]
struct Alarm;

/// Does to the transaction whatever the card says.
#[event_handler(subscription = "billing", retry(attempts = 3, initial = "10s", jitter = 0.0))]
async fn charge(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO charges (number) VALUES (?)").bind(order.order).execute(&mut **tx).await?;
    CardCharged { order: order.order }.publish(tx).await?;
    match order.card.as_str() {
        "busy" => Err("the bank is busy".into()),
        "closed" => Err(HandlerError::retry_after(DAY)),
        "expired" => Err(HandlerError::dead_letter("the card has expired")),
        "explosive" => panic!("the card has exploded"),
        "slow" => {
            tokio::time::sleep(DAY).await;
            Ok(())
        }
        "alarming" => {
            let later = PublishOptions::new().delay(DAY);
            Alarm.publish_with(tx, later).await?;
            Ok(())
        }
        "careless" => {
            let _swallowed = sqlx::query("COMMIT").execute(&mut **tx).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Declared for the same subscription and event: not to be run with the other.
#[event_handler(subscription = "billing", retry(attempts = 3, initial = "10s", jitter = 0.0))]
async fn never(_order: OrderPlaced) -> Result<(), HandlerError> {
    Err("this handler was not asked for".into())
}

#[derive(Clone)]
struct Seen(std::sync::Arc<std::sync::Mutex<Vec<EventContext>>>);

/// Takes no transaction.
#[event_handler(subscription = "audit")]
async fn note(
    _order: &OrderPlaced,
    context: &EventContext,
    State(seen): State<Seen>,
) -> Result<(), HandlerError> {
    seen.0.lock().unwrap().push(context.clone());
    Ok(())
}

async fn count(pool: &SqlitePool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM charges").fetch_one(pool).await
}

fn test(test: impl AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Failure>) {
    test_with(|bus| bus, test);
}

fn test_with(
    register: impl Fn(BusBuilder<Sqlite>) -> BusBuilder<Sqlite> + 'static,
    test: impl AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Failure>,
) {
    TestBus::run(register, async |bus: &mut TestBus<'_>| {
        sqlx::raw_sql("CREATE TABLE charges (number INTEGER)").execute(bus.pool()).await?;
        test(bus).await
    });
}

#[test]
fn what_a_handler_does_is_committed_and_what_it_publishes_is_there_at_once() {
    test(async |bus| {
        let outcome = bus.handle::<charge>(&OrderPlaced::by("valid")).await?;
        outcome.assert_processed();
        assert_eq!(count(bus.pool()).await?, 1);
        assert_eq!(bus.published::<CardCharged>()?, [CardCharged { order: 1 }]);
        // Sent once, and not once more.
        bus.settled().await?;
        assert_eq!(bus.published::<CardCharged>()?, [CardCharged { order: 1 }]);
        Ok(())
    });
}

#[test]
fn what_a_failed_handler_did_is_rolled_back_and_nothing_is_left_to_be_done() {
    test_with(
        |bus| bus.handler::<charge>().handler::<never>(),
        async |bus| {
            for card in ["busy", "closed", "expired", "explosive"] {
                let outcome = bus.handle::<charge>(&OrderPlaced::by(card)).await?;
                assert!(!matches!(outcome, Outcome::Processed), "{card}: {outcome:?}");
                assert_eq!(count(bus.pool()).await?, 0, "{card}");
                assert_eq!(bus.published::<CardCharged>()?, [], "{card}");
            }
            bus.settled().await?;
            bus.assert_none_dead().await?;
            assert_eq!(count(bus.pool()).await?, 0);
            Ok(())
        },
    );
}

#[test]
fn a_failure_is_tried_again_by_the_handlers_own_policy_until_it_is_out_of_attempts() {
    test(async |bus| {
        let busy = OrderPlaced::by("busy");
        for (attempt, seconds) in [(1, 10), (2, 20)] {
            let outcome = bus.handle::<charge>(&busy).attempt(attempt).await?;
            let (after, reason) = (Duration::from_secs(seconds), "the bank is busy".to_owned());
            assert_eq!(outcome, Outcome::Retried { after, counted: true, reason });
        }
        bus.handle::<charge>(&busy).attempt(3).await?.assert_dead("the bank is busy");
        Ok(())
    });
}

#[test]
fn the_buss_policy_is_for_handlers_that_have_none() {
    struct Failing;
    impl Handler<Sqlite> for Failing {
        type Event = OrderPlaced;
        fn settings(&self) -> HandlerSettings {
            HandlerSettings::new("failing")
        }
        async fn handle(
            &self,
            _event: OrderPlaced,
            _tx: &mut Transaction<'_, Sqlite>,
            _context: &EventContext,
        ) -> Result<(), HandlerError> {
            Err("always".into())
        }
    }
    let twice = InboxSettings::default().retry(RetryPolicy::default().attempts(2));
    test_with(
        move |bus| bus.inbox(twice.clone()),
        async |bus| {
            let order = OrderPlaced::by("valid");
            bus.handle_value(Failing, &order).await?.assert_retried("always");
            bus.handle_value(Failing, &order).attempt(2).await?.assert_dead("always");
            Ok(())
        },
    );
}

#[test]
fn handlers_may_ask_for_a_time_give_up_and_panic() {
    test(async |bus| {
        let outcome = bus.handle::<charge>(&OrderPlaced::by("closed")).await?;
        assert!(matches!(outcome, Outcome::Retried { after: DAY, counted: false, .. }), "{outcome:?}");
        bus.handle::<charge>(&OrderPlaced::by("expired")).await?.assert_dead("the card has expired");
        let outcome = bus.handle::<charge>(&OrderPlaced::by("explosive")).await?;
        outcome.assert_retried("the handler panicked: the card has exploded");
        Ok(())
    });
}

#[test]
fn a_handler_that_ends_its_transaction_is_found_out() {
    test(async |bus| {
        let outcome = bus.handle::<charge>(&OrderPlaced::by("careless")).await?;
        outcome.assert_dead("handler ended the transaction");
        Ok(())
    });
}

#[test]
fn a_handler_that_does_not_return_in_its_time_is_cut_off() {
    test(async |bus| {
        let outcome = bus.handle::<charge>(&OrderPlaced::by("slow")).await?;
        outcome.assert_retried("the handler did not return within 5s");
        assert_eq!(count(bus.pool()).await?, 0);
        Ok(())
    });
}

#[test]
fn the_context_is_what_the_test_says() {
    let seen = Seen(std::sync::Arc::default());
    let given = seen.clone();
    test_with(
        move |bus| bus.state(given.clone()),
        async |bus| {
            let id = EventId::new();
            let (made, came) = (SystemTime::UNIX_EPOCH + DAY, SystemTime::UNIX_EPOCH + 2 * DAY);
            let handling = bus.handle::<note>(&OrderPlaced::by("valid")).id(id).attempt(4);
            let handling = handling.session_id("another").correlation_id("flow").causation_id("cause");
            let handling = handling.header("tenant", "acme").created_at(made).received_at(came);
            handling.await?.assert_processed();
            bus.handle::<note>(&OrderPlaced::by("valid")).await?.assert_processed();

            let [shaped, plain] = seen.0.lock().unwrap().clone().try_into().unwrap();
            assert_eq!((shaped.id(), shaped.subscription(), shaped.attempt()), (id, "audit", 4));
            assert_eq!((shaped.name(), shaped.version()), ("ordering.order-placed", 1));
            assert_eq!(shaped.session_id(), Some("another"));
            assert_eq!((shaped.correlation_id(), shaped.causation_id()), (Some("flow"), Some("cause")));
            assert_eq!(shaped.header("tenant"), Some("acme"));
            assert_eq!((shaped.created_at(), shaped.received_at()), (Some(made), came));
            assert_eq!((plain.session_id(), plain.attempt()), (Some("1"), 1));
            assert_eq!((plain.causation_id(), plain.header("tenant")), (None, None));
            assert_eq!(plain.created_at(), Some(plain.received_at()));
            Ok(())
        },
    );
}

#[test]
fn what_a_handler_publishes_belongs_to_the_flow_of_its_event() {
    test(async |bus| {
        let id = EventId::new();
        let _not_this_one = Correlation::random();
        bus.handle::<charge>(&OrderPlaced::by("valid")).id(id).correlation_id("flow").await?;
        let row = sqlx::query_as("SELECT correlation_id, causation_id FROM outbox");
        let row: (String, String) = row.fetch_one(bus.pool()).await?;
        assert_eq!(row, ("flow".to_owned(), id.to_string()));
        Ok(())
    });
}

#[test]
fn the_same_event_is_not_processed_twice() {
    test(async |bus| {
        let id = EventId::new();
        bus.handle::<charge>(&OrderPlaced::by("busy")).id(id).await?.assert_retried("busy");
        bus.handle::<charge>(&OrderPlaced::by("valid")).id(id).attempt(2).await?.assert_processed();
        assert_eq!(bus.handle::<charge>(&OrderPlaced::by("valid")).id(id).await?, Outcome::Duplicate);
        assert_eq!(count(bus.pool()).await?, 1);
        Ok(())
    });
}

#[test]
fn a_delayed_event_and_one_of_another_lane_are_published_all_the_same() {
    test(async |bus| {
        bus.handle::<charge>(&OrderPlaced::by("alarming")).await?.assert_processed();
        assert_eq!(bus.published::<Alarm>()?, [Alarm]);
        Ok(())
    });
}

#[test]
fn a_missing_state_is_told_with_what_to_do() {
    test(async |bus| {
        let error = bus.handle::<note>(&OrderPlaced::by("valid")).await.unwrap_err().to_string();
        assert!(error.contains("note (") && error.contains("add `.state(value)`"), "{error}");
        Ok(())
    });
}

#[test]
fn an_event_that_can_not_travel_is_told() {
    #[derive(DistributedEvent, Serialize, Deserialize)]
    #[event(name = "photo-taken", max_size = 1_000)]
    struct PhotoTaken(String);
    #[event_handler(subscription = "photos")]
    async fn show(_photo: PhotoTaken) -> Result<(), HandlerError> {
        Ok(())
    }
    test(async |bus| {
        let error = bus.handle::<show>(&PhotoTaken("x".repeat(2_000))).await.unwrap_err().to_string();
        assert!(error.contains("the limit is 1000"), "{error}");
        Ok(())
    });
}
