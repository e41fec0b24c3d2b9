//! What this program does with ordering's database.

use std::time::Duration;

use distributed_events::Stats;
use serde_json::Value;
use sqlx::{Pool, SqlitePool};

use super::{Db, audit, ordering};
use crate::arguments::Arguments;
use crate::input::Input;
use crate::placed::Placed;
use crate::service::{Namespaces, tell};
use crate::{Failure, books, service};

/// The quickstart's, of which a hundred show what there is to be seen.
const ORDERS: &str = include_str!("../../quickstart/orders.ndjson");

/// `false` when the books don't agree.
pub(crate) async fn run(
    arguments: &Arguments,
    ordering_db: &Pool<Db>,
    billing_db: &SqlitePool,
) -> Result<bool, Failure> {
    match arguments.command.as_str() {
        "ordering" => {
            let orders = match arguments.get("input") {
                Ok(path) => std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?,
                Err(_) => ORDERS.lines().take(100).collect::<Vec<_>>().join("\n"),
            };
            let bus = ordering::bus(ordering_db).await?;
            service::run(bus, Namespaces::of(arguments)?, &Input::read(), async |bus| {
                let placed = ordering::take_orders(bus, ordering_db, &orders).await?;
                tell(&format!("placed {}", serde_json::to_string(&placed)?));
                Ok(())
            })
            .await?;
            Ok(true)
        }
        "settle" => {
            let (input, patience) = (Input::read(), Duration::from_secs(arguments.get("patience")?.parse()?));
            tokio::select! {
                settled = audit::settle(ordering_db, billing_db, patience) => settled.map(|()| true),
                () = input.ended() => Ok(false),
            }
        }
        "report" => {
            let placed: Placed = serde_json::from_str(arguments.get("placed")?)?;
            if placed.known + placed.malformed > 0 {
                println!(
                    "{} orders were known from an earlier run, {} lines were skipped\n",
                    placed.known, placed.malformed
                );
            }
            let (ordering, billing) = (stats(arguments, "ordering")?, stats(arguments, "billing")?);
            println!("{}", books::table(&ordering, &billing));
            audit::report(ordering_db, billing_db, arguments.get("since")?.parse()?).await
        }
        other => Err(format!("there is no command {other}").into()),
    }
}

/// What a service has counted, as it said when it stopped.
fn stats(arguments: &Arguments, service: &str) -> Result<Stats, Failure> {
    let told: Value = serde_json::from_str(arguments.get(service)?)?;
    let count = |name: &str| told[name].as_u64().ok_or_else(|| format!("{service} did not count {name}"));
    let mut stats = Stats::default();
    stats.sent = count("sent")?;
    stats.processed = count("processed")?;
    stats.retried = count("retried")?;
    stats.dead = count("dead")?;
    Ok(stats)
}
