//! Ordering: places orders, one transaction each with the events of its lines, and hears from billing.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use distributed_events::storage::Storage as _;
use distributed_events::{BusBuilder, DistributedEvent as _, EventBus, HandlerError, HandlerSettings};
use futures_util::FutureExt as _;
use sqlx::{Pool, Transaction};
use uuid::Uuid;

use crate::events::{LineBilled, LinePlaced};
use crate::ground::{Ground, numbers};
use crate::load::{ACCOUNTS, OPENING_CENTS, Order};

/// The publishers of one run, an instance each.
pub const PUBLISHERS: u64 = 2;
/// Lines that nobody has heard of again, above which publishers wait.
const BACKLOG: i64 = 250;
const PACE: Duration = Duration::from_millis(25);

/// The tables. Answers have no keys, on purpose: what happens twice must show.
pub fn tables<G: Ground>() -> Vec<String> {
    vec![
        "CREATE TABLE accounts (id BIGINT PRIMARY KEY, cents BIGINT NOT NULL, next BIGINT NOT NULL)"
            .to_owned(),
        "CREATE TABLE orders (id BIGINT PRIMARY KEY)".to_owned(),
        "CREATE TABLE placed (line BIGINT PRIMARY KEY, session BIGINT NOT NULL, n BIGINT NOT NULL, \
         cents BIGINT NOT NULL, fate BIGINT NOT NULL, billed BIGINT NOT NULL)"
            .to_owned(),
        format!(
            "CREATE TABLE answers ({}, session BIGINT NOT NULL, n BIGINT NOT NULL, line BIGINT NOT NULL, \
             cents BIGINT NOT NULL)",
            G::SEQ
        ),
        // One row: below which number orders are placed.
        "CREATE TABLE demand (orders BIGINT NOT NULL)".to_owned(),
    ]
}

/// Their first rows.
pub fn opening() -> String {
    let accounts: Vec<_> = (0..ACCOUNTS).map(|id| format!("({id}, {OPENING_CENTS}, 0)")).collect();
    format!("INSERT INTO accounts (id, cents, next) VALUES {}", accounts.join(", "))
}

/// Adds what ordering handles.
pub fn handlers<G: Ground>(builder: BusBuilder<G::DB>, batch: u32) -> BusBuilder<G::DB> {
    let settings = HandlerSettings::new("ordering").batch(batch);
    builder.publishes::<LinePlaced>().on(settings, |event: LineBilled, tx, context| {
        let first = context.attempt() == 1;
        Box::pin(async move { note::<G>(&event, tx, first).await })
    })
}

async fn note<G: Ground>(
    event: &LineBilled,
    tx: &mut Transaction<'_, G::DB>,
    first: bool,
) -> Result<(), HandlerError> {
    let LineBilled { session, n, line, cents } = event;
    let sql =
        format!("INSERT INTO answers (session, n, line, cents) VALUES ({session}, {n}, {line}, {cents})");
    G::run(tx, &sql).await?;
    G::run(tx, &format!("UPDATE placed SET billed = billed + 1 WHERE line = {line}")).await?;
    if first && line % 20 == 3 {
        return Err("the answer is refused at first".into());
    }
    Ok(())
}

/// Places every second order, for as long as it runs; whatever goes wrong, it looks how far it came and goes on.
pub async fn publish<G: Ground>(bus: &EventBus<G::DB>, pool: &Pool<G::DB>, seed: u64, publisher: u64) {
    loop {
        let publishing = AssertUnwindSafe(publish_until_trouble::<G>(bus, pool, seed, publisher));
        // The fixtures panic where a database is away, as nothing else is expected of it.
        let ended =
            publishing.catch_unwind().await.unwrap_or_else(|_| Err("the connection was lost".to_owned()));
        println!("publishing: {}", ended.unwrap_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn publish_until_trouble<G: Ground>(
    bus: &EventBus<G::DB>,
    pool: &Pool<G::DB>,
    seed: u64,
    publisher: u64,
) -> Result<Infallible, String> {
    let last = format!("SELECT coalesce(max(id), -1) FROM orders WHERE id % {PUBLISHERS} = {publisher}");
    let last = numbers::<G>(pool, &last).await?[0];
    let mut number = if last < 0 { publisher } else { u64::try_from(last).unwrap() + PUBLISHERS };
    loop {
        let demand = numbers::<G>(pool, "SELECT orders FROM demand").await?;
        let backlog =
            numbers::<G>(pool, "SELECT count(*) FROM placed WHERE billed = 0 AND fate <> 2").await?[0];
        let wanted = demand.first().is_some_and(|demand| number < u64::try_from(*demand).unwrap());
        if wanted && backlog < BACKLOG {
            place::<G>(bus, pool, number, &Order::of(seed, number)).await?;
            number += PUBLISHERS;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn place<G: Ground>(
    bus: &EventBus<G::DB>,
    pool: &Pool<G::DB>,
    number: u64,
    order: &Order,
) -> Result<(), String> {
    let words = |error: sqlx::Error| error.to_string();
    let Order { session, lines, dwells, rolled_back } = order;
    let (count, total) = (lines.len() as i64, lines.iter().map(|(cents, _)| cents).sum::<i64>());
    let mut tx = pool.begin_with(G::DB::BEGIN).await.map_err(words)?;
    // The account is locked before anything is published (rule 1).
    let take =
        format!("UPDATE accounts SET cents = cents - {total}, next = next + {count} WHERE id = {session}");
    G::run(&mut tx, &take).await.map_err(words)?;
    let next = format!("SELECT next - {count} FROM accounts WHERE id = {session}");
    let first = G::numbers(&mut tx, &next).await[0];
    G::run(&mut tx, &format!("INSERT INTO orders (id) VALUES ({number})")).await.map_err(words)?;
    let events: Vec<_> = lines
        .iter()
        .zip(first..)
        .map(|((cents, fate), n)| {
            let line = i64::try_from(Uuid::new_v4().as_u128() >> 66).unwrap();
            LinePlaced { session: *session, n, line, cents: *cents, fate: *fate }
        })
        .collect();
    for LinePlaced { session, n, line, cents, fate } in &events {
        let sql = format!(
            "INSERT INTO placed (line, session, n, cents, fate, billed) \
             VALUES ({line}, {session}, {n}, {cents}, {}, 0)",
            fate.number()
        );
        G::run(&mut tx, &sql).await.map_err(words)?;
    }
    LinePlaced::publish_all(&mut tx, &events).await.map_err(|error| error.to_string())?;
    tokio::time::sleep(*dwells).await;
    if *rolled_back { tx.rollback().await } else { bus.commit(tx).await }.map_err(words)
}
