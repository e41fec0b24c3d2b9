//! Waiting until all is settled, and reconciling; nothing here is needed to exchange events.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use distributed_events::admin::{self, DeadRowFilter, Table};
use sqlx::{Pool, SqlitePool};

use super::{Db, way};
use crate::compare::{Books, Reminder};
use crate::settling::{Way, on_their_way};
use crate::{Failure, books, sqlite};

/// Waits until no event is on its way, and says what still is when nothing moves any more.
pub(crate) async fn settle(
    ordering_db: &Pool<Db>,
    billing_db: &SqlitePool,
    patience: Duration,
) -> Result<(), Failure> {
    let live = std::io::stderr().is_terminal();
    let (mut seen, mut moved) = (None, Instant::now());
    loop {
        let began = Instant::now();
        let way = |service, rows| Way { service, rows };
        let inboxes = [
            way("ordering", way::inbox(ordering_db).await?),
            way("billing", sqlite::way::inbox(billing_db).await?),
        ];
        let outboxes = [
            way("ordering", way::outbox(ordering_db).await?),
            way("billing", sqlite::way::outbox(billing_db).await?),
        ];
        let waiting = on_their_way(&inboxes, &outboxes);
        if live {
            eprint!("\r\x1b[K{} events on their way", waiting.values().sum::<u64>());
        }
        if waiting.is_empty() {
            break;
        }
        if seen.as_ref() != Some(&waiting) {
            (seen, moved) = (Some(waiting), Instant::now());
        } else if moved.elapsed() > patience {
            let waiting: String = waiting.iter().map(|(what, count)| format!("\n  {count} {what}")).collect();
            return Err(format!(
                "nothing has moved for {} s, and there are still{waiting}",
                patience.as_secs()
            )
            .into());
        }
        // Much history makes a look dear; it must not take the time of those who work.
        tokio::time::sleep(Duration::from_millis(50).max(began.elapsed() * 4)).await;
    }
    if live {
        eprint!("\r\x1b[K");
    }
    Ok(())
}

/// Prints what the tables tell beside the counts, and the reconciliation; `false` when the books don't agree.
pub(crate) async fn report(
    ordering_db: &Pool<Db>,
    billing_db: &SqlitePool,
    since: i64,
) -> Result<bool, Failure> {
    // Both clocks are this machine's.
    let taken: Vec<i64> = sqlx::query_scalar(
        "SELECT processed_at - created_at FROM inbox WHERE status = 'processed' AND created_at >= ?
         AND event_type = 'ordering.order-placed'",
    )
    .bind(since)
    .fetch_all(billing_db)
    .await?;
    let taken = taken.into_iter().map(|taken| Duration::from_millis(taken.try_into().unwrap_or(0)));
    println!("{}\n", books::latencies(taken.collect()));
    let books = read(ordering_db, billing_db).await?;
    println!("{}", books.summary());
    for dead in admin::dead_rows(billing_db, Table::Inbox, &DeadRowFilter::default()).await? {
        println!("dead: {} of session {}: {}", dead.event, dead.session_id.unwrap_or_default(), dead.reason);
    }
    println!();
    Ok(books::verdict(&books.differences()))
}

/// Reads the business tables of the two services, and nothing else.
async fn read(ordering_db: &Pool<Db>, billing_db: &SqlitePool) -> Result<Books, Failure> {
    let reminders: Vec<(i64, i64)> =
        sqlx::query_as("SELECT order_id, came_at FROM reminders").fetch_all(ordering_db).await?;
    Ok(Books {
        orders: sqlx::query_as(
            "SELECT order_id, total_cents, card, paid_cents, payments FROM orders ORDER BY order_id",
        )
        .fetch_all(ordering_db)
        .await?,
        promises: sqlx::query_as(
            "SELECT order_id, placed_cents, step, review_due_at FROM orders ORDER BY order_id",
        )
        .fetch_all(ordering_db)
        .await?,
        reminders: reminders.into_iter().map(|(order_id, came_at)| Reminder { order_id, came_at }).collect(),
        alerts: sqlx::query_scalar("SELECT order_id FROM alerts").fetch_all(ordering_db).await?,
        charges: sqlx::query_as("SELECT order_id, cents FROM charges").fetch_all(billing_db).await?,
    })
}
