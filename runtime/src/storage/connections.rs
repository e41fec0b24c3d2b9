//! The library's own connections to a database.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Pool};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Storage, StorageError};

/// How long a suspect may take to answer.
const PING_WAIT: Duration = Duration::from_secs(2);

/// The library's own pool, and the queue in which its writers wait where a database has one writer at a time.
///
/// SQLite itself has no such queue: whoever finds it locked sleeps and tries again, up to 100 ms later, however often the
/// lock was free in between.
#[derive(Debug)]
pub struct Connections<DB: Storage> {
    pool: Pool<DB>,
    turn: Arc<Mutex<()>>,
    /// How many idle connections are to be tried before use.
    suspects: Arc<AtomicU32>,
}

impl<DB: Storage> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), turn: Arc::clone(&self.turn), suspects: Arc::clone(&self.suspects) }
    }
}

impl<DB: Storage> From<Pool<DB>> for Connections<DB> {
    fn from(pool: Pool<DB>) -> Self {
        Self { pool, turn: Arc::default(), suspects: Arc::default() }
    }
}

impl<DB: Storage> Connections<DB> {
    pub(crate) const fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// The database was in trouble: what ended one connection has most often ended the others too, and each would fail
    /// somebody's work before it is found out.
    pub(crate) fn suspect(&self) {
        self.suspects.store(u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether one who keeps a writer for its next write keeps nobody waiting.
    pub(crate) fn can_spare_one(&self) -> bool {
        let pool = &self.pool;
        !DB::SINGLE_WRITER && (pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections())
    }

    async fn acquire(&self) -> Result<PoolConnection<DB>, StorageError> {
        loop {
            let mut conn = self.pool.acquire().await?;
            let one_less = |suspects: u32| suspects.checked_sub(1);
            if self.suspects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err()
                || matches!(tokio::time::timeout(PING_WAIT, conn.ping()).await, Ok(Ok(())))
            {
                return Ok(conn);
            }
            conn.close_on_drop();
        }
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn read(&self) -> Result<PoolConnection<DB>, StorageError> {
        self.acquire().await
    }

    /// A connection to write with; keep it no longer than the write takes.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn write(&self) -> Result<Writer<DB>, StorageError> {
        let turn = if DB::SINGLE_WRITER { Some(Arc::clone(&self.turn).lock_owned().await) } else { None };
        let conn = self.acquire().await?;
        Ok(Writer { conn, close: false, can_close: !DB::is_ephemeral(&self.pool), _turn: turn })
    }
}

/// A connection whose turn it is to write.
#[derive(Debug)]
pub struct Writer<DB: Storage> {
    conn: PoolConnection<DB>,
    close: bool,
    /// Not where the data would go with the connection.
    can_close: bool,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl<DB: Storage> Writer<DB> {
    /// Lets the connection be closed when it is dropped, unless it is [kept](Self::keep) before.
    pub(crate) fn close_unless_kept(&mut self) {
        self.close = self.can_close;
    }

    /// Whether the connection may be closed: not where the data would go with it.
    pub(crate) const fn can_close(&self) -> bool {
        self.can_close
    }

    /// Lets the connection go back to the pool.
    pub(crate) fn keep(&mut self) {
        self.close = false;
    }
}

impl<DB: Storage> Deref for Writer<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.conn
    }
}

impl<DB: Storage> DerefMut for Writer<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conn
    }
}

impl<DB: Storage> Drop for Writer<DB> {
    fn drop(&mut self) {
        if self.close {
            self.conn.close_on_drop();
        }
    }
}
