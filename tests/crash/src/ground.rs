//! Where a run takes place: two databases of one kind, and the server that has them.

use std::future::Future;
use std::time::Duration;

use sqlx::Pool;
use sqlx::pool::PoolOptions;
use tests::conformance::Fixture as _;
use tests::fixtures::{File, MySqlDatabase, PgDatabase};
use tests::instances::Shared;
use tests::outages::OnServer;
use tests::private_server::PrivateServer;

/// A kind of database that the services can stand on.
pub trait Ground: Shared + 'static {
    /// Its name.
    const NAME: &'static str;
    /// What `tests/servers` calls its server, where it has one.
    const SERVER: Option<&'static str>;
    /// A column that counts up.
    const SEQ: &'static str;
    /// Leases whose time was over that many milliseconds ago.
    fn overdue(milliseconds: u128) -> String;

    /// A new database, on this server where there is one.
    fn on(server: Option<&PrivateServer>) -> impl Future<Output = Self> + Send;
}

impl Ground for File {
    const NAME: &'static str = "sqlite";
    const SERVER: Option<&'static str> = None;
    const SEQ: &'static str = "seq INTEGER PRIMARY KEY AUTOINCREMENT";

    fn overdue(milliseconds: u128) -> String {
        format!("until < CAST(unixepoch('subsec') * 1000 AS INTEGER) - {milliseconds}")
    }

    async fn on(_server: Option<&PrivateServer>) -> Self {
        let file = Self::empty().await;
        file.execute("PRAGMA journal_mode = WAL").await;
        file
    }
}

impl Ground for PgDatabase {
    const NAME: &'static str = "postgres";
    const SERVER: Option<&'static str> = Some(<Self as OnServer>::KIND);
    const SEQ: &'static str = "seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY";

    fn overdue(milliseconds: u128) -> String {
        format!("until < clock_timestamp() - interval '{milliseconds} ms'")
    }

    async fn on(server: Option<&PrivateServer>) -> Self {
        <Self as OnServer>::on(server.unwrap().url()).await
    }
}

impl Ground for MySqlDatabase {
    const NAME: &'static str = "mariadb";
    const SERVER: Option<&'static str> = Some(<Self as OnServer>::KIND);
    const SEQ: &'static str = "seq BIGINT AUTO_INCREMENT PRIMARY KEY";

    fn overdue(milliseconds: u128) -> String {
        format!(
            "until < (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000) - {milliseconds}"
        )
    }

    async fn on(server: Option<&PrivateServer>) -> Self {
        <Self as OnServer>::on(server.unwrap().url()).await
    }
}

/// The user's pool of a service, which need not find its database at once.
pub fn pool<G: Ground>(url: &str) -> Pool<G::DB> {
    PoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(5)).connect_lazy(url).unwrap()
}

/// One column of numbers, or why there are none right now.
pub async fn numbers<G: Ground>(pool: &Pool<G::DB>, sql: &str) -> Result<Vec<i64>, String> {
    use futures_util::FutureExt as _;
    let asked = async {
        let mut conn = pool.acquire().await.map_err(|error| error.to_string())?;
        // What follows panics where the database is away, as nothing else is expected of it.
        G::run(&mut conn, "SELECT 1").await.map_err(|error| error.to_string())?;
        Ok(G::numbers(&mut conn, sql).await)
    };
    let caught = std::panic::AssertUnwindSafe(asked).catch_unwind().await;
    caught.unwrap_or_else(|_| Err("the connection was lost".to_owned()))
}
