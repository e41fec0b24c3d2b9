//! What `testing::TestBus` says when a test fails, and where.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use distributed_events::testing::{Outcome, TestBus};
use distributed_events::{DistributedEvent, HandlerError, event_handler, handlers};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "ordering.order-placed", topic = "orders")]
struct OrderPlaced {
    order: i64,
    note: String,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.card-charged", topic = "charges")]
struct CardCharged {
    order: i64,
    note: String,
}

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "billing.card-refused", topic = "charges")]
struct CardRefused {
    order: i64,
}

/// Gives up the first order, is refused by the second, and charges all others.
#[event_handler(subscription = "billing")]
async fn charge(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    match order.order {
        1 => Err(HandlerError::dead_letter("an order without a card")),
        2 => Err("the bank is busy".into()),
        number => {
            CardCharged { order: number, note: order.note }.publish(tx).await?;
            Ok(())
        }
    }
}

fn placed(order: i64) -> OrderPlaced {
    OrderPlaced { order, note: "by post".to_owned() }
}

/// Runs a test with a bus that has received orders of these numbers, and handled each once.
fn after(orders: &[i64], test: impl AsyncFnOnce(&mut TestBus<'_>) -> Result<(), Failure>) {
    TestBus::run(
        |bus| bus.handlers(handlers![charge]).publishes::<CardCharged>(),
        async |bus: &mut TestBus<'_>| {
            for order in orders {
                bus.receive(&placed(*order))?;
            }
            bus.let_pass(Duration::from_millis(500)).await?;
            test(bus).await
        },
    );
}

thread_local! {
    static PLACE: Cell<(String, u32)> = Cell::default();
}

/// The text and the line of the panic that this ends with.
fn failure(run: impl FnOnce()) -> (String, String, u32) {
    // Once for all: the tests of this file may run side by side in one process.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(place) = panic.location() {
                PLACE.set((place.file().to_owned(), place.line()));
            }
            usual(panic);
        }));
    });
    let payload = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let (file, line) = PLACE.take();
    (*payload.downcast::<String>().unwrap(), file, line)
}

#[test]
fn what_holds_passes() {
    after(&[3, 4], async |bus| {
        bus.assert_published::<CardCharged>(|charged| charged.order == 4).await?;
        bus.assert_published(|charged: &CardCharged| charged.order == 3).await?;
        bus.assert_published_count::<CardCharged>(2).await?;
        bus.assert_not_published::<CardRefused>().await?;
        bus.assert_none_dead().await?;
        Ok(())
    });
    after(&[1], async |bus| Ok(bus.assert_dead::<OrderPlaced>("without a card").await?));
}

#[test]
fn a_missing_event_is_told_with_what_is_there_instead_at_the_line_of_the_test() {
    let line = Cell::new(0);
    let (text, file, found) = failure(|| {
        after(&[1, 2, 3], async |bus| {
            line.set(line!() + 1);
            bus.assert_published::<CardCharged>(|charged| charged.order == 5).await?;
            Ok(())
        });
    });
    assert_eq!((file.as_str(), found), (file!(), line.get()));
    let expected = "no billing.card-charged like this was published:
  published: billing.card-charged {\"order\":3,\"note\":\"by post\"}
  pending in the inbox of billing: ordering.order-placed {\"order\":2,\"note\":\"by post\"}, after 1 attempts: the bank is busy
  dead in the inbox of billing: ordering.order-placed {\"order\":1,\"note\":\"by post\"}, after 1 attempts: an order without a card
  (what is pending goes on with `settled` or `let_pass`)";
    assert_eq!(text, expected);
}

#[test]
fn an_event_too_much_is_told_with_its_data() {
    let (text, file, _) = failure(|| {
        after(&[3, 4], async |bus| Ok(bus.assert_not_published::<CardCharged>().await?));
    });
    assert_eq!(file, file!());
    assert!(text.starts_with("2 billing.card-charged were published, not 0:\n"), "{text}");
    assert!(text.contains("published: billing.card-charged {\"order\":4,"), "{text}");
    assert!(!text.contains("pending"), "{text}");
    let (text, ..) = failure(|| {
        after(&[3], async |bus| Ok(bus.assert_published_count::<CardRefused>(1).await?));
    });
    assert!(text.starts_with("0 billing.card-refused were published, not 1:\n"), "{text}");
}

#[test]
fn what_the_service_was_not_let_do_is_told_as_pending() {
    let (text, ..) = failure(|| {
        after(&[], async |bus| {
            bus.receive(&placed(3))?;
            let mut tx = bus.pool().begin_with("BEGIN IMMEDIATE").await?;
            CardCharged { order: 9, note: String::new() }.publish(&mut tx).await?;
            tx.commit().await?;
            Ok(bus.assert_published::<CardCharged>(|_| true).await?)
        });
    });
    assert!(text.contains("\n  pending at the broker: 1 messages\n"), "{text}");
    assert!(text.contains("\n  pending in the outbox: billing.card-charged {\"order\":9,"), "{text}");
    assert!(text.ends_with("goes on with `settled` or `let_pass`)"), "{text}");
}

#[test]
fn that_nothing_happened_is_told() {
    let (text, ..) =
        failure(|| after(&[], async |bus| Ok(bus.assert_dead::<OrderPlaced>("anything").await?)));
    let nothing = "nothing was published, nothing is pending, nothing is dead";
    assert_eq!(text, format!("no ordering.order-placed is dead because of `anything`:\n  {nothing}"));
}

#[test]
fn the_dead_of_another_reason_are_not_the_ones_asked_for() {
    let (text, file, _) =
        failure(|| after(&[1], async |bus| Ok(bus.assert_dead::<OrderPlaced>("expired").await?)));
    assert_eq!(file, file!());
    assert!(
        text.contains("because of `expired`:\n  dead in the inbox of billing: ordering.order-placed"),
        "{text}"
    );
    let (text, file, _) = failure(|| after(&[1], async |bus| Ok(bus.assert_none_dead().await?)));
    assert_eq!(file, file!());
    assert_eq!(text, "events ended dead:\n  ordering.order-placed after 1 attempts: an order without a card");
}

#[test]
fn many_events_and_long_ones_are_shown_in_part() {
    let orders: Vec<i64> = (3..33).collect();
    let (text, ..) = failure(|| {
        after(&orders, async |bus| {
            let long = OrderPlaced { order: 99, note: "ö".repeat(500) };
            bus.receive(&long)?;
            bus.settled().await?;
            Ok(bus.assert_not_published::<CardCharged>().await?)
        });
    });
    assert_eq!(text.matches("\n  published: ").count(), 20, "{text}");
    assert!(text.contains("\n  and 11 more"), "{text}");
    let (text, ..) = failure(|| {
        after(&[], async |bus| {
            let long = OrderPlaced { order: 99, note: "ö".repeat(500) };
            bus.handle::<charge>(&long).await?.assert_processed();
            Ok(bus.assert_not_published::<CardCharged>().await?)
        });
    });
    let shown = text.lines().find(|line| line.contains("published: ")).unwrap();
    assert!(shown.ends_with("öö…") && shown.chars().count() < 250, "{shown}");
}

#[test]
fn outcomes_tell_what_came_instead_at_the_line_of_the_test() {
    let again = Outcome::Retried { after: Duration::from_secs(10), counted: true, reason: "busy".to_owned() };
    let (text, file, line) = failure(|| again.assert_processed());
    assert_eq!((file.as_str(), line), (file!(), line!() - 1));
    assert_eq!(text, "the event was not processed: it is tried again in 10.0s: busy");
    let (text, ..) = failure(|| again.assert_retried("closed"));
    assert_eq!(
        text,
        "the event is not to be tried again because of `closed`: it is tried again in 10.0s: busy"
    );
    let (text, ..) = failure(|| Outcome::Processed.assert_dead("busy"));
    assert_eq!(text, "the event is not dead because of `busy`: it was processed");
    again.assert_retried("bus");
    Outcome::Dead { reason: "the card has expired".to_owned() }.assert_dead("expired");
    let (text, ..) = failure(|| Outcome::Duplicate.assert_processed());
    assert_eq!(text, "the event was not processed: it was processed before, under the same id");
}
