//! The ordering service: takes each order through its steps, one transaction each with the event that tells of it, and
//! hears from billing, and from itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributed_events::storage::Storage as _;
use distributed_events::{
    BusBuilder, DistributedEvent as _, EventBus, HandlerError, PublishOptions, event_handler,
};
use sqlx::{Pool, Transaction};

use super::{Db, sql};
use crate::Failure;
use crate::events::{CardCharged, FraudSuspected, OrderChanged, OrderConfirmed, OrderPlaced, ReviewDue};
use crate::placed::Placed;

/// How long after its order a customer is asked for a review.
const REVIEW_AFTER: Duration = Duration::from_secs(2);
/// The steps after which nothing is left to be done: placed (0), changed twice, confirmed.
pub(crate) const CONFIRMED: i64 = 3;

pub(crate) async fn bus(pool: &Pool<Db>) -> Result<BusBuilder<Db>, Failure> {
    create_tables(pool).await?;
    EventBus::migrate(pool).await?;
    Ok(EventBus::builder(pool.clone()).handlers(handlers))
}

pub(crate) fn handlers(bus: BusBuilder<Db>) -> BusBuilder<Db> {
    bus.discovered_handlers_of("ordering")
        .publishes::<OrderPlaced>()
        .publishes::<OrderChanged>()
        .publishes::<OrderConfirmed>()
        .publishes::<ReviewDue>()
}

pub(crate) async fn create_tables(pool: &Pool<Db>) -> Result<(), Failure> {
    // No unique keys on the last two, on purpose: what happens twice must show.
    for table in [
        "CREATE TABLE IF NOT EXISTS orders (order_id BIGINT PRIMARY KEY, placed_cents BIGINT NOT NULL,
            total_cents BIGINT NOT NULL, card VARCHAR(20) NOT NULL, step BIGINT NOT NULL, review_due_at BIGINT NOT NULL,
            paid_cents BIGINT NOT NULL DEFAULT 0, payments BIGINT NOT NULL DEFAULT 0)",
        "CREATE TABLE IF NOT EXISTS reminders (order_id BIGINT NOT NULL, came_at BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS alerts (order_id BIGINT NOT NULL, cents BIGINT NOT NULL)",
    ] {
        sqlx::query(table).execute(pool).await?;
    }
    Ok(())
}

/// Reads orders, one JSON object a line, and takes every order through the steps that it has not taken yet, whichever run
/// has placed it.
pub(crate) async fn take_orders(bus: &EventBus<Db>, pool: &Pool<Db>, input: &str) -> Result<Placed, Failure> {
    let mut placed = Placed::default();
    for (index, line) in input.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(order) if place(bus, pool, &order).await? => placed.published += 1,
            Ok(_) => placed.known += 1,
            Err(error) => {
                eprintln!("line {}: not an order, skipped: {error}", index + 1);
                placed.malformed += 1;
            }
        }
    }
    for step in 0..CONFIRMED {
        let there: Vec<(i64, i64)> =
            sqlx::query_as(sql("SELECT order_id, total_cents FROM orders WHERE step = $1 ORDER BY order_id"))
                .bind(step)
                .fetch_all(pool)
                .await?;
        for (order_id, total_cents) in there {
            take_step(bus, pool, step + 1, order_id, total_cents).await?;
        }
    }
    Ok(placed)
}

/// Writes an order, its event, and the reminder that comes later; `false` where an earlier run has done so.
async fn place(bus: &EventBus<Db>, pool: &Pool<Db>, order: &OrderPlaced) -> Result<bool, Failure> {
    let due = milliseconds(SystemTime::now() + REVIEW_AFTER)?;
    let mut tx = pool.begin_with(Db::BEGIN).await?;
    let known = sqlx::query(sql("SELECT 1 FROM orders WHERE order_id = $1")).bind(order.order_id);
    if known.fetch_optional(&mut *tx).await?.is_some() {
        return Ok(false);
    }
    sqlx::query(sql("INSERT INTO orders (order_id, placed_cents, total_cents, card, step, review_due_at)
         VALUES ($1, $2, $2, $3, 0, $4)"))
    .bind(order.order_id)
    .bind(order.total_cents)
    .bind(&order.card)
    .bind(due)
    .execute(&mut *tx)
    .await?;
    order.publish(&mut tx).await?;
    let at = UNIX_EPOCH + Duration::from_millis(due.try_into()?);
    let review = ReviewDue { order_id: order.order_id };
    review.publish_with(&mut tx, PublishOptions::new().deliver_at(at)).await?;
    bus.commit(tx).await?;
    Ok(true)
}

/// Changes an order, or confirms it: postage first, then a tenth off, which the other way round is another total.
async fn take_step(
    bus: &EventBus<Db>,
    pool: &Pool<Db>,
    step: i64,
    order_id: i64,
    total_cents: i64,
) -> Result<(), Failure> {
    let total_cents = match step {
        1 => total_cents + 500,
        2 => total_cents * 9 / 10,
        _ => total_cents,
    };
    let mut tx = pool.begin_with(Db::BEGIN).await?;
    sqlx::query(sql("UPDATE orders SET total_cents = $1, step = $2 WHERE order_id = $3"))
        .bind(total_cents)
        .bind(step)
        .bind(order_id)
        .execute(&mut *tx)
        .await?;
    if step == CONFIRMED {
        OrderConfirmed { order_id }.publish(&mut tx).await?;
    } else {
        OrderChanged { order_id, total_cents }.publish(&mut tx).await?;
    }
    bus.commit(tx).await?;
    Ok(())
}

#[event_handler(subscription = "ordering")]
async fn mark_paid(event: CardCharged, tx: &mut Transaction<'_, Db>) -> Result<(), HandlerError> {
    // Counted, not set: handling an event twice would show.
    sqlx::query(sql(
        "UPDATE orders SET paid_cents = paid_cents + $1, payments = payments + 1 WHERE order_id = $2",
    ))
    .bind(event.cents)
    .bind(event.order_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[event_handler(subscription = "ordering")]
async fn ask_for_review(due: ReviewDue, tx: &mut Transaction<'_, Db>) -> Result<(), HandlerError> {
    sqlx::query(sql("INSERT INTO reminders (order_id, came_at) VALUES ($1, $2)"))
        .bind(due.order_id)
        .bind(milliseconds(SystemTime::now()).map_err(HandlerError::dead_letter)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[event_handler(subscription = "ordering")]
async fn note_alert(alert: FraudSuspected, tx: &mut Transaction<'_, Db>) -> Result<(), HandlerError> {
    sqlx::query(sql("INSERT INTO alerts (order_id, cents) VALUES ($1, $2)"))
        .bind(alert.order_id)
        .bind(alert.cents)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn milliseconds(time: SystemTime) -> Result<i64, Failure> {
    Ok(time.duration_since(UNIX_EPOCH)?.as_millis().try_into()?)
}
