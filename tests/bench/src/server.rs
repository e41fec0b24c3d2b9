//! Private servers that go with the program, and databases on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres};
use tempfile::TempDir;

use crate::Result;
use crate::machine::Machine;
use distributed_events::EventBus;

/// What the measurements rest on: a durable server with room enough that no checkpoint comes of a round's size.
const POSTGRES_SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "'512MB'"),
    ("max_wal_size", "'4GB'"),
    ("autovacuum", "on"),
    // When a row was committed, by the database's own record.
    ("track_commit_timestamp", "on"),
];

/// The folder of a run, in which the servers keep their data.
pub(crate) fn folder(asked: Option<&Path>) -> Result<TempDir> {
    let beside = std::env::current_exe()?;
    let base = asked.or_else(|| beside.parent()).ok_or("this program lies in no folder")?;
    std::fs::create_dir_all(base)?;
    let folder = tempfile::Builder::new().prefix("bench.").tempdir_in(base)?;
    // The servers are other users' processes where this one is root's.
    succeed(Command::new("chmod").arg("755").arg(folder.path()))?;
    Ok(folder)
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    kind: &'static str,
    place: PathBuf,
    url: String,
}

impl Server {
    /// Starts one: `postgres` or `mariadb`.
    pub(crate) fn start(kind: &'static str, folder: &Path) -> Result<Self> {
        let mut server = Self { kind, place: folder.join(kind), url: String::new() };
        server.url = server.control("start")?.trim().to_owned();
        Ok(server)
    }

    /// A PostgreSQL server with the settings of the measurements, which it is asked for afterwards.
    pub(crate) async fn postgres(folder: &Path, machine: &mut Machine) -> Result<Self> {
        let server = Self::start("postgres", folder)?;
        let mut conn = server.options()?.connect().await?;
        let socket = ("unix_socket_directories", format!("'{}'", server.place.display()));
        for (name, value) in
            POSTGRES_SETTINGS.map(|(name, value)| (name, value.to_owned())).into_iter().chain([socket])
        {
            run(&mut conn, format!("ALTER SYSTEM SET {name} = {value}")).await?;
        }
        conn.close().await?;
        server.control("stop")?;
        server.control("start")?;
        let mut conn = server.options()?.connect().await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut conn).await?;
        let mut said = Vec::new();
        for (name, wanted) in POSTGRES_SETTINGS {
            let show = AssertSqlSafe(format!("SHOW {name}"));
            let value: String = sqlx::query_scalar(show).fetch_one(&mut conn).await?;
            if value != wanted.trim_matches('\'') {
                return Err(format!("PostgreSQL has {name} = {value} where {wanted} was asked for").into());
            }
            said.push(format!("{name} = {value}"));
        }
        machine.server(format!("PostgreSQL {version}, TCP over loopback"), said.join(", "));
        run(&mut conn, format!("CREATE DATABASE {TEMPLATE}")).await?;
        conn.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(server.options()?.database(TEMPLATE))
            .await?;
        EventBus::migrate(&pool).await?;
        run(&mut *pool.acquire().await?, BUSINESS.to_owned()).await?;
        pool.close().await;
        Ok(server)
    }

    fn control(&self, command: &str) -> Result<String> {
        succeed(servers().arg(command).arg(self.kind).arg(&self.place))
    }

    /// Where it writes what it does.
    pub(crate) fn log(&self) -> PathBuf {
        self.place.join("log")
    }

    /// Where it can be reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn options(&self) -> Result<PgConnectOptions> {
        Ok(self.url.parse()?)
    }

    /// A fresh database with the library's tables and those of a business, empty.
    pub(crate) async fn fresh(&self) -> Result<Cell> {
        let mut conn = self.options()?.connect().await?;
        let name = format!("cell_{}", uuid::Uuid::new_v4().simple());
        run(&mut conn, format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await?;
        conn.close().await?;
        let options = self.options()?.database(&name);
        Ok(Cell { server: self.options()?, options, socket: self.place.clone(), name })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data goes with the folder, so that nothing is lost with an end in disorder.
        let _may_be_gone =
            servers().arg("kill").arg(self.kind).arg(&self.place).stdin(Stdio::null()).status();
    }
}

const TEMPLATE: &str = "bench_template";

/// What an application would have beside its events.
const BUSINESS: &str = "CREATE TABLE business (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    customer bigint NOT NULL, note text NOT NULL)";

/// A database of one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    server: PgConnectOptions,
    options: PgConnectOptions,
    socket: PathBuf,
    name: String,
}

impl Cell {
    /// Its name on the server.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A pool on it that asks no connection whether it is still there.
    pub(crate) async fn pool(&self, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(connections).min_connections(connections);
        Ok(options.test_before_acquire(false).connect_with(self.options.clone()).await?)
    }

    /// One connection.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        Ok(self.options.connect().await?)
    }

    /// One connection past TCP, whose rule that a small packet waits for the answer to the one before costs 40 ms where a
    /// client that can't turn it off (sqlx 0.9) sends two in a row, as COPY does.
    pub(crate) async fn connect_locally(&self) -> Result<PgConnection> {
        Ok(self.options.clone().socket(&self.socket).connect().await?)
    }

    /// Where another process reaches it.
    pub(crate) fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    /// Runs statements that answer nothing of interest.
    pub(crate) async fn run(&self, sql: impl Into<String>) -> Result<()> {
        let mut conn = self.connect().await?;
        run(&mut conn, sql.into()).await?;
        Ok(conn.close().await?)
    }

    /// Asks for one number.
    pub(crate) async fn number(&self, sql: impl Into<String>) -> Result<i64> {
        let mut conn = self.connect().await?;
        let number =
            sqlx::query_scalar::<Postgres, i64>(AssertSqlSafe(sql.into())).fetch_one(&mut conn).await?;
        conn.close().await?;
        Ok(number)
    }

    /// Empties the tables of events and of business.
    pub(crate) async fn empty(&self) -> Result<()> {
        self.run("TRUNCATE outbox, inbox, business RESTART IDENTITY").await
    }

    /// Gives its room back.
    pub(crate) async fn drop(self) -> Result<()> {
        let mut conn = self.server.connect().await?;
        run(&mut conn, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?;
        Ok(conn.close().await?)
    }
}

async fn run(conn: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

fn servers() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../servers"))
}

fn succeed(command: &mut Command) -> Result<String> {
    // Its errors go where ours go, since a pipe that the server inherits would never end.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
