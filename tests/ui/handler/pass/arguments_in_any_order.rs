#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

#[derive(Clone)]
struct Config;

type Tx<'a> = Transaction<'a, Sqlite>;

#[event_handler(subscription = "a")]
async fn all(
    order: OrderPlaced,
    State(_config): State<Config>,
    context: &EventContext,
    tx: &mut Tx<'_>,
    number: State<u64>,
) -> Result<(), HandlerError> {
    let _ = (order.order_id, context.id(), tx, number.0);
    Ok(())
}

#[event_handler(subscription = "a")]
async fn by_reference(order: &OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> {
    let _ = (order.order_id, tx);
    Ok(())
}

#[event_handler(subscription = "a")]
async fn destructured(OrderPlaced { order_id }: OrderPlaced) -> Result<(), HandlerError> {
    let _ = order_id;
    Ok(())
}

#[event_handler(subscription = "billing")]
async fn charge(order: OrderPlaced) -> Result<(), HandlerError> {
    Ok(())
}

fn register(builder: distributed_events::BusBuilder<Sqlite>) -> distributed_events::BusBuilder<Sqlite> {
    builder.handlers(distributed_events::handlers![all, by_reference, destructured, charge])
}

fn main() {}
