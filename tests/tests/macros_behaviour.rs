//! What the macros' expansions do when they run.

use std::time::Duration;

use distributed_events::{
    BusBuilder, BusError, DecodeError, DistributedEvent, EventBus, EventContext, EventId, HandlerError,
    LocalBroker, State, event_handler, handlers,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use tests::eventually::eventually;
use tests::service::{Database, Running, quick};

#[derive(Debug, DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order_id, alias = "OrderPlaced")]
struct OrderPlaced {
    order_id: i64,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    cents: i64,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "moved")]
struct MovedV1 {
    to: String,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "moved", version = 2, upcast_from = MovedV1)]
struct Moved {
    street: String,
}

impl From<MovedV1> for Moved {
    fn from(old: MovedV1) -> Self {
        Self { street: old.to }
    }
}

async fn note(tx: &mut Transaction<'_, Sqlite>, value: String) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)").bind(value).execute(&mut **tx).await?;
    Ok(())
}

#[event_handler(subscription = "billing", timeout = "4s")]
async fn charge(
    order: &OrderPlaced,
    State(currency): State<&'static str>,
    tx: &mut Transaction<'_, Sqlite>,
    context: &EventContext,
) -> Result<(), HandlerError> {
    let total: i64 = order.lines.iter().map(|line| line.cents).sum();
    note(tx, format!("{} {total} {currency} as {}", order.order_id, context.name())).await?;
    Ok(())
}

#[event_handler(subscription = "billing")]
async fn relocate(moved: Moved, tx: &mut Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
    note(tx, moved.street).await
}

#[event_handler(subscription = "plain")]
async fn nothing(_: Moved) -> Result<(), HandlerError> {
    Ok(())
}

fn problems(built: Result<EventBus<Sqlite>, BusError>) -> Vec<String> {
    match built {
        Err(BusError::Configuration { problems }) => problems,
        other => panic!("expected problems, not {other:?}"),
    }
}

async fn builder(database: &Database) -> BusBuilder<Sqlite> {
    quick(&database.pool).broker(LocalBroker::new())
}

#[test]
fn a_body_that_does_not_fit_is_refused_with_its_path() {
    let error =
        OrderPlaced::decode(1, br#"{"order_id": 1, "lines": [{"cents": 5}, {"cents": "x"}]}"#).unwrap_err();
    assert!(matches!(&error, DecodeError::Body { path, .. } if path == "lines[1].cents"), "{error}");
    let trailing = OrderPlaced::decode(1, br#"{"order_id": 1, "lines": []} and more"#).unwrap_err();
    assert!(trailing.to_string().contains("trailing characters"), "{trailing}");
}

#[test]
fn versions_are_read_as_far_as_they_are_known() {
    assert_eq!(Moved::decode(1, br#"{"to": "a"}"#).unwrap().street, "a");
    assert_eq!(Moved::decode(2, br#"{"street": "b"}"#).unwrap().street, "b");
    for unknown in [0, 3] {
        let error = Moved::decode(unknown, b"{}").err().unwrap();
        assert!(matches!(error, DecodeError::Version { oldest: 1, newest: 2, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_handler_is_still_a_function() {
    let database = Database::new().await;
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let context = EventContext::new(EventId::new(), "billing").with_attempt(2);
    let order = OrderPlaced { order_id: 7, lines: vec![Line { cents: 100 }] };
    charge(&order, State("EUR"), &mut tx, &context).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(database.effects().await, ["7 100 EUR as "]);
}

#[tokio::test]
async fn declared_handlers_are_found_and_run_under_every_name_and_version() {
    let database = Database::new().await;
    let bus = builder(&database).await.state("EUR").discovered_handlers_of("billing").build().unwrap();
    let mut tx = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    OrderPlaced { order_id: 1, lines: vec![Line { cents: 100 }, Line { cents: 20 }] }
        .publish(&mut tx)
        .await
        .unwrap();
    MovedV1 { to: "High Street".to_owned() }.publish(&mut tx).await.unwrap();
    sqlx::query("INSERT INTO outbox (id, event_type, event_data, topic) VALUES (randomblob(16), 'OrderPlaced', ?, 'orders')")
        .bind(r#"{"order_id": 2, "lines": []}"#)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let running = Running::start(bus);
    let mut effects = eventually("3 effects", || database.effects(), |effects| effects.len() == 3).await;
    running.stop().await.unwrap();
    effects.sort();
    assert_eq!(effects, ["1 120 EUR as ordering.order-placed", "2 0 EUR as OrderPlaced", "High Street"]);
}

#[tokio::test]
async fn a_declared_handler_that_is_not_registered_is_an_error_that_names_it() {
    let database = Database::new().await;
    let found = problems(builder(&database).await.handler::<relocate>().build());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("macros_behaviour::charge (tests/tests/macros_behaviour.rs:"), "{found:?}");
    assert!(found[0].contains(".handler::<macros_behaviour::charge>()"), "{found:?}");
    builder(&database).await.handler::<relocate>().without::<charge>().build().unwrap();
    let all = builder(&database).await.state("EUR").handlers(handlers![relocate, charge]);
    all.build().unwrap();
}

#[tokio::test]
async fn a_missing_state_a_second_registration_and_a_bad_timeout_are_reported_together() {
    let database = Database::new().await;
    let found = problems(
        builder(&database)
            .await
            .handlers(handlers![charge, relocate, relocate, nothing])
            .busy_timeout(Duration::from_secs(3))
            .build(),
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("asks for State<&str>")), "{found:?}");
    assert!(
        found.iter().any(|problem| problem.contains("relocate") && problem.contains("registered twice")),
        "{found:?}"
    );
    assert!(found.iter().any(|problem| problem.contains("busy_timeout")), "{found:?}");
}

#[tokio::test]
async fn all_handlers_of_the_program_can_be_discovered() {
    let database = Database::new().await;
    let bus = builder(&database).await.state("EUR").discovered_handlers().build().unwrap();
    let shown = format!("{bus:?}");
    assert!(shown.contains("billing") && shown.contains("plain"), "{shown}");
}
