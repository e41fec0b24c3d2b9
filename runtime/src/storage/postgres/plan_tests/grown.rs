//! Plans that sessions keep while the tables grow.

use std::time::Duration;

use sqlx::Postgres;
use tokio::time::Instant;

use super::*;
use crate::envelope::EventId;
use crate::storage::{Connections, InboxQuery, OutboxQuery, PoolSettings, Reader, Storage};

const FEW: &str = "
    INSERT INTO outbox (id, event_type, event_data)
        SELECT gen_random_uuid(), 'e', '{}' FROM generate_series(1, 4);
    INSERT INTO inbox (subscription, id, message_id, event_type, event_data, shard)
        SELECT 's', gen_random_uuid(), n, 'e', '{}', 3 FROM generate_series(1, 4) AS n";

/// The loops' statements, as they ask, with arguments that find nothing or little.
const STATEMENTS: [(&str, &str); 5] = [
    (outbox::READ, "'default', 0, '{}'"),
    (outbox::MARK_DEAD, "gen_random_uuid(), 'x'"),
    (inbox::READ, "'s', 3::smallint, 0, '{}', '{}'"),
    (inbox::MARK_PROCESSED, "array_fill(-1::bigint, ARRAY[50])"),
    (inbox::MARK_ONE_PROCESSED, "-1"),
];

const CONNECTIONS: u32 = 3;

/// Each of them, on whatever connection there is.
async fn ask(connections: &Connections<Postgres>) {
    let id = EventId::from_uuid(Uuid::new_v4());
    let read = OutboxQuery::new("default", 500);
    Postgres::read_outbox(&mut *connections.read().await.unwrap(), &read).await.unwrap();
    Postgres::mark_outbox_dead(&mut *connections.write().await.unwrap(), id, "x").await.unwrap();
    let read = InboxQuery::new("s", 3, 500);
    Postgres::read_inbox(&mut *connections.read().await.unwrap(), &read).await.unwrap();
    for seqs in [&[-1; 50][..], &[-1]] {
        Postgres::mark_processed(&mut *connections.write().await.unwrap(), seqs).await.unwrap();
    }
}

/// What a session would do at its next use of each.
async fn plans(conn: &mut PgConnection) -> Vec<String> {
    let mut plans = Vec::new();
    for (sql, arguments) in STATEMENTS {
        let names =
            "SELECT name FROM pg_prepared_statements WHERE statement = $1 OR statement = $1 || ' LIMIT 500'";
        let name: String =
            sqlx::query_scalar(names).persistent(false).bind(sql).fetch_one(&mut *conn).await.unwrap();
        let asked = format!("EXPLAIN (COSTS OFF) EXECUTE {name}({arguments})");
        let rows = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_all(&mut *conn).await.unwrap();
        plans.push(rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n"));
    }
    plans
}

fn walks_through_all(plan: &str) -> bool {
    plan.contains("Seq Scan on")
}

/// All connections of a pool at once.
async fn all(connections: &Connections<Postgres>) -> Vec<Reader<Postgres>> {
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        all.push(connections.read().await.unwrap());
    }
    all
}

/// Also of connections that are idle while one that a task keeps does everything.
#[tokio::test]
async fn a_plan_for_small_tables_does_not_outlive_their_growth() {
    in_database(async |pool| {
        let mut other = pool.acquire().await.unwrap();
        run(&mut other, FEW).await;
        run(&mut other, "VACUUM ANALYZE").await;
        let settings = PoolSettings::new(CONNECTIONS, Duration::from_secs(1));
        let connections = Connections::from(Postgres::open(&pool, &settings).await.unwrap());
        drop(all(&connections).await);
        // Plans are kept from the sixth execution on; idle connections are lent in turns.
        for _ in 0..12 * CONNECTIONS {
            ask(&connections).await;
        }
        for conn in &mut all(&connections).await {
            let small = plans(conn).await;
            assert!(small.iter().all(|plan| walks_through_all(plan)), "nothing to be seen here: {small:#?}");
        }
        run(&mut other, HISTORY).await;
        let busy = connections.for_one();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            for _ in 0..50 {
                ask(&busy).await;
            }
            let mut readers = vec![busy.read().await.unwrap()];
            for _ in 1..CONNECTIONS {
                readers.push(connections.read().await.unwrap());
            }
            let mut grown = Vec::new();
            for conn in &mut readers {
                grown.extend(plans(conn).await);
            }
            if !grown.iter().any(|plan| walks_through_all(plan)) {
                break;
            }
            assert!(Instant::now() < deadline, "{grown:#?}");
        }
    })
    .await;
}
