//! Sessions that can't forget their plans.

use std::time::Duration;

use sqlx::Postgres;

use super::*;
use crate::storage::{Connections, PoolSettings, Reader, Storage};

/// Longer than a generation of plans lasts at the least.
const WORK: &str = "SELECT pg_sleep(1.1)";

async fn pid(conn: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").persistent(false).fetch_one(conn).await.unwrap()
}

/// What one task lends again after it has left the session as `leave` leaves it, which has worked long enough to be told to
/// forget its plans; and which server process it had before.
async fn lent_again(pool: &PgPool, leave: impl AsyncFnOnce(&mut PgConnection)) -> (Reader<Postgres>, i32) {
    let settings = PoolSettings::new(2, Duration::from_secs(1));
    let connections = Connections::from(Postgres::open(pool, &settings).await.unwrap()).for_one();
    let mut conn = connections.read().await.unwrap();
    let before = pid(&mut conn).await;
    run(&mut conn, WORK).await;
    leave(&mut conn).await;
    drop(conn);
    let again = tokio::time::timeout(Duration::from_secs(60), connections.read()).await.unwrap().unwrap();
    (again, before)
}

/// It goes on with its plans, and with the connection.
#[tokio::test]
async fn a_server_that_refuses_to_forget_plans_keeps_its_connection() {
    in_database(async |pool| {
        let (mut again, before) = lent_again(&pool, async |conn| {
            // As a BEGIN that was cut off leaves it: sqlx doesn't know of a transaction, in which nothing is done any more.
            sqlx::raw_sql("BEGIN; SELECT nothing").execute(conn).await.unwrap_err();
        })
        .await;
        run(&mut again, "ROLLBACK").await;
        assert_eq!(pid(&mut again).await, before);
    })
    .await;
}

/// Nobody waits for it longer than for any connection that is tried before its use.
#[tokio::test]
async fn a_server_that_hangs_over_its_plans_is_left() {
    in_database(async |pool| {
        let (mut again, before) = lent_again(&pool, async |conn| {
            let mut endless = Box::pin(sqlx::raw_sql("SELECT pg_sleep(600)").execute(conn));
            // Until it is sent; its answer is the next statement's to wait for.
            assert!(tokio::time::timeout(Duration::from_millis(100), &mut endless).await.is_err());
        })
        .await;
        assert_ne!(pid(&mut again).await, before);
    })
    .await;
}
