//! Hints to other processes by NOTIFY.

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, Pool, Postgres};
use uuid::Uuid;

use crate::storage::{Hint, HintStorage, StorageError};

const CHANNEL: &str = "distributed_events";

const HINTS: [(Hint, &str); 2] = [(Hint::Published, "published"), (Hint::Received, "received")];

impl HintStorage for Postgres {
    const CARRIES_HINTS: bool = true;

    async fn notify(conn: &mut PgConnection, from: Uuid, hints: &[Hint]) -> Result<(), StorageError> {
        // In one round trip, and not waiting for the disk: a hint that is lost with the server is no loss.
        let mut sql = "BEGIN; SET LOCAL synchronous_commit = off".to_owned();
        for (_, text) in HINTS.iter().filter(|(hint, _)| hints.contains(hint)) {
            sql.push_str(&format!("; NOTIFY {CHANNEL}, '{text} {}'", from.simple()));
        }
        sql.push_str("; COMMIT");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?;
        Ok(())
    }

    async fn listen(
        pool: &Pool<Self>,
        me: Uuid,
        heard: impl Fn(Hint) + Send + Sync,
    ) -> Result<(), StorageError> {
        // Beside the library's pool, whose few connections do the work.
        let own =
            PgPoolOptions::new().max_connections(1).connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(CHANNEL).await?;
        let everything = || HINTS.iter().for_each(|(hint, _)| heard(*hint));
        everything();
        let mine = me.simple().to_string();
        // Reconnects by itself, and says so by `None`: what was said meanwhile was not heard.
        loop {
            let Some(notification) = listener.try_recv().await? else {
                everything();
                continue;
            };
            let Some((text, from)) = notification.payload().split_once(' ') else { continue };
            if from != mine {
                HINTS.iter().filter(|(_, known)| *known == text).for_each(|(hint, _)| heard(*hint));
            }
        }
    }
}
