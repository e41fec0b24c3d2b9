//! The model as a database of sqlx's: connections and transactions. It speaks no SQL.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, ready};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::{ConnectOptions, Connection, Database, Either, Error, Execute, Executor, SqlStr, Transaction};
use sqlx_core::transaction::TransactionManager;
use tokio::time::Instant;

use super::port::{
    ModelArguments, ModelColumn, ModelResult, ModelRow, ModelStatement, ModelType, ModelValue,
};
use super::server::{Inner, Server};
use super::table::{Blocked, Tx};
use crate::process::Process;

/// The model as sqlx knows it.
#[derive(Debug)]
pub struct ModelDatabase;

impl Database for ModelDatabase {
    type Connection = ModelConnection;
    type TransactionManager = Transactions;
    type Row = ModelRow;
    type QueryResult = ModelResult;
    type Column = ModelColumn;
    type TypeInfo = ModelType;
    type Value = ModelValue;
    type ValueRef<'r> = ModelValue;
    type Arguments = ModelArguments;
    type ArgumentBuffer = ();
    type Statement = ModelStatement;
    const NAME: &'static str = "Model";
    const URL_SCHEMES: &'static [&'static str] = &["model"];
}

/// How a process reaches a server.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// The server.
    pub server: Arc<Server>,
    /// The process.
    pub process: Arc<Process>,
}

impl FromStr for ModelOptions {
    type Err = Error;

    fn from_str(_url: &str) -> Result<Self, Error> {
        Err(Error::Configuration("the model has no address".into()))
    }
}

impl ConnectOptions for ModelOptions {
    type Connection = ModelConnection;

    fn from_url(url: &sqlx_core::Url) -> Result<Self, Error> {
        url.as_str().parse()
    }

    async fn connect(&self) -> Result<ModelConnection, Error> {
        let mut conn = ModelConnection {
            server: Arc::clone(&self.server),
            process: Arc::clone(&self.process),
            tx: None,
            broken: false,
        };
        conn.ping().await?;
        Ok(conn)
    }

    fn log_statements(self, _level: log::LevelFilter) -> Self {
        self
    }

    fn log_slow_statements(self, _level: log::LevelFilter, _duration: Duration) -> Self {
        self
    }
}

/// A connection of a process to a server.
#[derive(Debug)]
pub struct ModelConnection {
    pub(super) server: Arc<Server>,
    process: Arc<Process>,
    tx: Option<Open>,
    broken: bool,
}

/// The transaction of a connection.
#[derive(Clone, Copy, Debug)]
struct Open {
    tx: Tx,
    /// A statement has failed: the whole can't be committed.
    failed: bool,
}

/// How long a statement waits for a row, where nothing else is said.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

impl ModelConnection {
    /// Whether its transaction lives and is whole; `None` where it has ended.
    pub(super) fn is_whole(&self) -> Option<bool> {
        let open = self.tx.filter(|open| self.server.inner().lives(open.tx))?;
        Some(!open.failed)
    }

    /// Sets when the server ends the transaction by itself.
    pub(super) fn limit(&self, time: Option<Duration>) {
        if let Some(open) = self.tx {
            self.server.inner().limit(open.tx, time.map(|time| Instant::now() + time));
        }
    }

    /// One statement: it travels to the server, happens there when nothing blocks it, and its answer travels back. Either
    /// way can be cut off, so that nobody knows whether it has happened.
    pub(super) async fn run<T>(
        &mut self,
        call: &str,
        patience: Duration,
        mut statement: impl FnMut(&mut Inner, i64, Tx) -> Result<T, Blocked>,
    ) -> Result<T, Error> {
        let process = Arc::clone(&self.process);
        let mut chance = process.chance(call);
        self.arrive(call, &mut chance).await?;
        let give_up = Instant::now() + patience;
        let result = loop {
            let blocked = {
                let mut inner = self.server.inner();
                let now = self.server.now(&inner);
                let tx = match self.tx {
                    Some(open) if open.failed => return Err(Refusal::lasting("the transaction has failed")),
                    Some(open) if !inner.lives(open.tx) => {
                        drop(inner);
                        return Err(self.lost("the server has ended the transaction"));
                    }
                    Some(open) => open.tx,
                    None => inner.begin(None),
                };
                let result = statement(&mut inner, now, tx);
                if self.tx.is_none() {
                    inner.end(tx, result.is_ok());
                }
                match result {
                    Ok(result) => break result,
                    Err(blocked) => blocked,
                }
            };
            while self.server.inner().blocks(blocked) {
                if Instant::now() >= give_up {
                    if let Some(open) = &mut self.tx {
                        open.failed = true;
                    }
                    self.process.say(|| format!("{call}: gives up waiting for a row"));
                    return Err(Refusal::passing("could not get a row in time"));
                }
                tokio::time::sleep(Duration::from_millis(7)).await;
                self.process.travel(&mut chance).await;
            }
        };
        self.arrive(call, &mut chance).await?;
        Ok(result)
    }

    /// A call, or its answer, on its way.
    async fn arrive(&mut self, call: &str, chance: &mut crash::chance::Chance) -> Result<(), Error> {
        self.process.travel(chance).await;
        if self.broken || self.server.is_away() {
            return Err(self.lost(&format!("{call}: the server can't be reached")));
        }
        Ok(())
    }

    fn lost(&mut self, why: &str) -> Error {
        self.broken = true;
        self.tx = None;
        self.process.say(|| why.to_owned());
        Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionReset, why.to_owned()))
    }

    /// Adds a line to the trace.
    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        self.process.say(text);
    }
}

impl Connection for ModelConnection {
    type Database = ModelDatabase;
    type Options = ModelOptions;

    fn close(self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        ready(Ok(()))
    }

    fn close_hard(self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        ready(Ok(()))
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let mut chance = self.process.chance("ping");
        self.arrive("ping", &mut chance).await
    }

    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_, ModelDatabase>, Error>> + Send + '_ {
        Transaction::begin(self, None)
    }

    fn shrink_buffers(&mut self) {}

    fn flush(&mut self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        ready(if self.broken { Err(self.lost("the connection is broken")) } else { Ok(()) })
    }

    fn should_flush(&self) -> bool {
        self.broken
    }
}

impl Drop for ModelConnection {
    fn drop(&mut self) {
        Transactions::start_rollback(self);
    }
}

/// Transactions of the model.
#[derive(Debug)]
pub struct Transactions;

impl TransactionManager for Transactions {
    type Database = ModelDatabase;

    async fn begin(conn: &mut ModelConnection, _statement: Option<SqlStr>) -> Result<(), Error> {
        let mut chance = conn.process.chance("begin");
        conn.arrive("begin", &mut chance).await?;
        conn.tx = Some(Open { tx: conn.server.inner().begin(None), failed: false });
        conn.arrive("begin", &mut chance).await
    }

    async fn commit(conn: &mut ModelConnection) -> Result<(), Error> {
        let mut chance = conn.process.chance("commit");
        conn.arrive("commit", &mut chance).await?;
        if let Some(open) = conn.tx.take() {
            let lived = conn.server.inner().end(open.tx, !open.failed);
            conn.say(|| {
                format!("commits {}: {}", open.tx, if lived && !open.failed { "done" } else { "not done" })
            });
            if !lived || open.failed {
                return Err(conn.lost("the transaction could not be committed"));
            }
        }
        conn.arrive("commit", &mut chance).await
    }

    async fn rollback(conn: &mut ModelConnection) -> Result<(), Error> {
        let mut chance = conn.process.chance("rollback");
        conn.arrive("rollback", &mut chance).await?;
        if let Some(open) = conn.tx.take() {
            conn.server.inner().end(open.tx, false);
        }
        conn.arrive("rollback", &mut chance).await
    }

    fn start_rollback(conn: &mut ModelConnection) {
        let Some(open) = conn.tx.take() else {
            return;
        };
        let mut inner = conn.server.inner();
        if conn.process.is_dead() {
            // It could not say goodbye, so the server finds out when it finds out.
            let mut chance = conn.process.chance("orphan");
            let time = if chance.happens(70) { 0 } else { chance.below(20_000) };
            inner.orphan(open.tx, Instant::now() + Duration::from_millis(time));
        } else {
            inner.end(open.tx, false);
        }
    }

    fn get_transaction_depth(conn: &ModelConnection) -> usize {
        usize::from(conn.tx.is_some())
    }
}

/// What the server answers instead.
#[derive(Debug)]
pub struct Refusal {
    text: &'static str,
    /// Whether trying again can help.
    pub(super) passes: bool,
}

impl Refusal {
    fn passing(text: &'static str) -> Error {
        Error::Database(Box::new(Self { text, passes: true }))
    }

    pub(super) fn lasting(text: &'static str) -> Error {
        Error::Database(Box::new(Self { text, passes: false }))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl StdError for Refusal {}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        self.text
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// The answer to any SQL.
fn no_sql() -> Error {
    Error::Protocol("the model speaks no SQL".to_owned())
}

impl<'c> Executor<'c> for &'c mut ModelConnection {
    type Database = ModelDatabase;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        _query: E,
    ) -> BoxStream<'e, Result<Either<ModelResult, ModelRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, ModelDatabase>,
    {
        Box::pin(futures_util::stream::once(ready(Err(no_sql()))))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, _query: E) -> BoxFuture<'e, Result<Option<ModelRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, ModelDatabase>,
    {
        Box::pin(ready(Err(no_sql())))
    }

    fn prepare_with<'e>(
        self,
        _sql: SqlStr,
        _parameters: &'e [ModelType],
    ) -> BoxFuture<'e, Result<ModelStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(ready(Err(no_sql())))
    }
}
