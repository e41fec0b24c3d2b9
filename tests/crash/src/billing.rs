//! Billing: bills every line and answers.

use std::time::Duration;

use distributed_events::{BusBuilder, DistributedEvent as _, HandlerError, HandlerSettings};
use sqlx::Transaction;

use crate::events::{Fate, LineBilled, LinePlaced};
use crate::ground::Ground;
use crate::load::ACCOUNTS;

/// The tables. The ledger has no keys, on purpose: what happens twice must show.
pub fn tables<G: Ground>() -> Vec<String> {
    vec![
        "CREATE TABLE tills (id BIGINT PRIMARY KEY, cents BIGINT NOT NULL)".to_owned(),
        format!(
            "CREATE TABLE ledger ({}, session BIGINT NOT NULL, n BIGINT NOT NULL, line BIGINT NOT NULL, \
             cents BIGINT NOT NULL)",
            G::SEQ
        ),
    ]
}

/// Their first rows.
pub fn opening() -> String {
    let tills: Vec<_> = (0..ACCOUNTS).map(|id| format!("({id}, 0)")).collect();
    format!("INSERT INTO tills (id, cents) VALUES {}", tills.join(", "))
}

/// Adds what billing handles.
pub fn handlers<G: Ground>(builder: BusBuilder<G::DB>, batch: u32) -> BusBuilder<G::DB> {
    let settings = HandlerSettings::new("billing").batch(batch);
    builder.publishes::<LineBilled>().on(settings, |event: LinePlaced, tx, context| {
        let first = context.attempt() == 1;
        Box::pin(async move { bill::<G>(&event, tx, first).await })
    })
}

/// Writes first and fails then, so that what is not rolled back shows.
async fn bill<G: Ground>(
    event: &LinePlaced,
    tx: &mut Transaction<'_, G::DB>,
    first: bool,
) -> Result<(), HandlerError> {
    let LinePlaced { session, n, line, cents, fate } = *event;
    let sql =
        format!("INSERT INTO ledger (session, n, line, cents) VALUES ({session}, {n}, {line}, {cents})");
    G::run(tx, &sql).await?;
    G::run(tx, &format!("UPDATE tills SET cents = cents + {cents} WHERE id = {session}")).await?;
    LineBilled { session, n, line, cents }.publish(tx).await?;
    // Time to be killed in.
    tokio::time::sleep(Duration::from_millis(line.unsigned_abs() % 4)).await;
    match fate {
        Fate::Refused => Err("the line is refused".into()),
        Fate::Retried if first => Err("the line is refused at first".into()),
        Fate::Billed | Fate::Retried => Ok(()),
    }
}
