//! `testing::TestBus`, as the author of a service uses it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use distributed_events::admin::{self, Table};
use distributed_events::testing::TestBus;
use distributed_events::{
    DistributedEvent, EventContext, HandlerError, HandlerSettings, PublishOptions, event_handler, handlers,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};

const DAY: Duration = Duration::from_secs(24 * 3600);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders", session = order)]
struct OrderPlaced {
    order: i64,
    /// How often the card is refused at first.
    refusals: u32,
}

#[derive(DistributedEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(name = "billing.card-charged", topic = "charges")]
struct CardCharged {
    order: i64,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.alarm", lane = "nobody's")]
struct Alarm;

/// Asks for another hour at each refusal, and gives an order without a number up.
#[event_handler(subscription = "billing")]
async fn charge(
    order: OrderPlaced,
    tx: &mut Transaction<'_, Sqlite>,
    context: &EventContext,
) -> Result<(), HandlerError> {
    if order.order == 0 {
        return Err(HandlerError::dead_letter("an order without a number"));
    }
    sqlx::query("INSERT INTO charges (number, attempt) VALUES (?, ?)")
        .bind(order.order)
        .bind(context.attempt())
        .execute(&mut **tx)
        .await?;
    CardCharged { order: order.order }.publish(tx).await?;
    if context.attempt() <= order.refusals { Err("the card is refused".into()) } else { Ok(()) }
}

/// What the service itself has published comes back to it here.
#[event_handler(subscription = "mailing")]
async fn mail(charged: CardCharged, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO mails (number) VALUES (?)").bind(charged.order).execute(&mut **tx).await?;
    Ok(())
}

async fn create_tables(pool: &SqlitePool) -> Outcome<()> {
    let sql = "CREATE TABLE charges (number INTEGER, attempt INTEGER); CREATE TABLE mails (number INTEGER)";
    sqlx::raw_sql(sql).execute(pool).await?;
    Ok(())
}

async fn count(pool: &SqlitePool, table: &str) -> Outcome<i64> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(pool)
        .await?)
}

fn test(test: impl AsyncFnOnce(&mut TestBus<'_>) -> Outcome<()>) {
    TestBus::run(
        |bus| bus.handlers(handlers![charge, mail]).publishes::<CardCharged>(),
        async |bus: &mut TestBus<'_>| {
            create_tables(bus.pool()).await?;
            test(bus).await
        },
    );
}

#[test]
fn what_is_received_is_handled_and_what_comes_of_it_is_published_and_handled() {
    test(async |bus| {
        bus.receive(&OrderPlaced { order: 1, refusals: 0 })?;
        bus.receive(&OrderPlaced { order: 2, refusals: 0 })?;
        assert_eq!(count(bus.pool(), "charges").await?, 0, "not before it settles");
        bus.settled().await?;
        let mut charged = bus.published::<CardCharged>()?;
        charged.sort_by_key(|charged| charged.order);
        assert_eq!(charged, [CardCharged { order: 1 }, CardCharged { order: 2 }]);
        assert_eq!(count(bus.pool(), "mails").await?, 2);
        bus.assert_none_dead().await?;
        Ok(())
    });
}

#[test]
fn retries_come_when_their_time_comes() {
    test(async |bus| {
        bus.receive(&OrderPlaced { order: 1, refusals: 4 })?;
        bus.let_pass(Duration::from_millis(10)).await?;
        assert_eq!(count(bus.pool(), "charges").await?, 0, "refused at first, and rolled back");
        bus.settled().await?;
        let attempt: i64 = sqlx::query_scalar("SELECT attempt FROM charges").fetch_one(bus.pool()).await?;
        assert_eq!(attempt, 5);
        Ok(())
    });
}

#[test]
fn a_delayed_event_comes_on_its_day() {
    test(async |bus| {
        let mut tx = bus.pool().begin_with("BEGIN IMMEDIATE").await?;
        let later = PublishOptions::new().delay(30 * DAY);
        CardCharged { order: 1 }.publish_with(&mut tx, later).await?;
        tx.commit().await?;
        bus.let_pass(29 * DAY).await?;
        assert_eq!(count(bus.pool(), "mails").await?, 0);
        bus.let_pass(2 * DAY).await?;
        assert_eq!(count(bus.pool(), "mails").await?, 1);
        Ok(())
    });
}

/// Whenever it is due, seen from the bus's looks and waits.
#[test]
fn no_delay_falls_between_two_looks() {
    for seconds in [13, 14, 15, 16, 17] {
        test(async |bus| {
            for settles in [true, false] {
                let mut tx = bus.pool().begin_with("BEGIN IMMEDIATE").await?;
                let later = PublishOptions::new().delay(Duration::from_secs(seconds));
                CardCharged { order: 1 }.publish_with(&mut tx, later).await?;
                tx.commit().await?;
                if settles { bus.settled().await? } else { bus.let_pass(DAY).await? }
            }
            assert_eq!(count(bus.pool(), "mails").await?, 2, "{seconds} s");
            Ok(())
        });
    }
}

#[test]
fn operators_see_the_simulated_clock() {
    test(async |bus| {
        bus.receive(&OrderPlaced { order: 0, refusals: 0 })?;
        bus.settled().await?;
        let dead = bus.dead().await?;
        sqlx::query("UPDATE inbox SET event_data = replace(event_data, ':0,', ':7,')")
            .execute(bus.pool())
            .await?;
        admin::requeue(bus.pool(), Table::Inbox, &[dead[0].seq], DAY).await?;
        bus.let_pass(DAY / 2).await?;
        assert_eq!(count(bus.pool(), "charges").await?, 0, "it was put off for a day");
        bus.let_pass(DAY).await?;
        assert_eq!(count(bus.pool(), "charges").await?, 1);
        Ok(())
    });
}

#[test]
fn what_never_ends_is_told() {
    TestBus::run(
        |bus| {
            bus.on(HandlerSettings::new("never"), |_: OrderPlaced, _tx, _context| {
                Box::pin(async { Err(HandlerError::retry_after(DAY / 24)) })
            })
        },
        async |bus| {
            bus.receive(&OrderPlaced { order: 1, refusals: 0 })?;
            let error = bus.settled().await.unwrap_err().to_string();
            assert!(error.contains("1 events in the inbox of service, subscription never"), "{error}");
            Ok(())
        },
    );
}

#[test]
fn a_rolled_back_transaction_has_published_nothing() {
    test(async |bus| {
        let mut tx = bus.pool().begin_with("BEGIN IMMEDIATE").await?;
        CardCharged { order: 1 }.publish(&mut tx).await?;
        tx.rollback().await?;
        bus.settled().await?;
        assert_eq!(bus.published::<CardCharged>()?, []);
        Ok(())
    });
}

#[test]
fn dead_events_are_told_with_their_reason() {
    let failed = catch_unwind(AssertUnwindSafe(|| {
        test(async |bus| {
            bus.receive(&OrderPlaced { order: 0, refusals: 0 })?;
            bus.settled().await?;
            assert_eq!(bus.dead().await?.len(), 1);
            Ok(bus.assert_none_dead().await?)
        });
    }));
    let text = failed.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("ordering.order-placed after 1 attempts: an order without a number"), "{text}");
}

#[test]
fn what_nothing_will_ever_do_is_told() {
    test(async |bus| {
        let mut tx = bus.pool().begin_with("BEGIN IMMEDIATE").await?;
        Alarm.publish(&mut tx).await?;
        tx.commit().await?;
        let error = bus.settled().await.unwrap_err().to_string();
        assert!(error.contains("1 events in the outbox of service, lane nobody's"), "{error}");
        Ok(())
    });
}

#[test]
fn a_test_that_fails_fails() {
    let failed = catch_unwind(AssertUnwindSafe(|| test(async |_bus| Err("no".into()))));
    assert_eq!(*failed.unwrap_err().downcast::<String>().unwrap(), "no");
}
