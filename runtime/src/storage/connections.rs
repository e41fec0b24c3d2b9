//! The library's own connections to a database.

mod idle;
mod plans;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Pool};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use self::idle::WereIdle;
use self::plans::Plans;
use super::{Storage, StorageError, Trouble};
use crate::simulated::{Life, Turn};

/// How long a connection may take to answer before it is used.
const PING_WAIT: Duration = Duration::from_secs(2);

/// For how long one user keeps a connection: only a pool sees that it is too old, or that nobody is at the other end.
const KEPT: Duration = Duration::from_secs(60);

/// The library's own pool, and the queue in which its writers wait where a database has one writer at a time.
///
/// SQLite itself has no such queue: whoever finds it locked sleeps and tries again, up to 100 ms later, however often the
/// lock was free in between.
#[derive(Debug)]
pub struct Connections<DB: Storage> {
    pool: Pool<DB>,
    turn: Arc<Mutex<()>>,
    /// Idle connections that are to be tried before use.
    suspects: Arc<WereIdle>,
    /// How often the database was in trouble.
    troubles: Arc<AtomicU32>,
    plans: Arc<Plans>,
    /// The connection that is kept between two uses, where this is one user's alone.
    kept: Option<Arc<Kept<DB>>>,
    life: Life,
}

/// A connection that was given back.
type Kept<DB> = std::sync::Mutex<Option<KeptConnection<DB>>>;

#[derive(Debug)]
struct KeptConnection<DB: Storage> {
    conn: PoolConnection<DB>,
    /// The number of troubles before it was lent.
    troubles: u32,
    /// The generation of its plans.
    plans: u32,
    /// When it came from the pool.
    pooled_at: Instant,
}

impl<DB: Storage> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            turn: Arc::clone(&self.turn),
            suspects: Arc::clone(&self.suspects),
            troubles: Arc::clone(&self.troubles),
            plans: Arc::clone(&self.plans),
            kept: None,
            life: self.life.clone(),
        }
    }
}

impl<DB: Storage> From<Pool<DB>> for Connections<DB> {
    fn from(pool: Pool<DB>) -> Self {
        Self {
            pool,
            turn: Arc::default(),
            suspects: Arc::default(),
            troubles: Arc::default(),
            plans: Arc::default(),
            kept: None,
            life: Default::default(),
        }
    }
}

impl<DB: Storage> Connections<DB> {
    /// The same as a part of a process of a simulation, if it is one.
    pub(super) fn of(self, life: Life) -> Self {
        Self { life, ..self }
    }

    pub(crate) const fn life(&self) -> &Life {
        &self.life
    }

    pub(crate) const fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// The same for one user, who uses one connection after the other: it keeps the last, and saves the round trip by
    /// which a pool looks at what is given back. Only where that look would change nothing of what was done to the session.
    pub(crate) fn for_one(&self) -> Self {
        Self { kept: DB::KEEPS_SESSIONS.then(Arc::default), ..self.clone() }
    }

    /// The database was in trouble: what ended one connection has most often ended the others too, and each would fail
    /// somebody's work before it is found out.
    pub(crate) fn suspect(&self) {
        self.troubles.fetch_add(1, Ordering::Relaxed);
        self.suspects.now(self.pool.num_idle());
    }

    fn take_kept(&self) -> Option<KeptConnection<DB>> {
        let mut kept = lock(self.kept.as_deref()?).take()?;
        if kept.troubles != self.troubles.load(Ordering::Relaxed) {
            // Nobody would try it before its next use.
            kept.conn.close_on_drop();
            return None;
        }
        (kept.pooled_at.elapsed() < KEPT).then_some(kept)
    }

    async fn pooled(&self) -> Result<PoolConnection<DB>, StorageError> {
        loop {
            let mut conn = self.pool.acquire().await?;
            if !self.suspects.take_one()
                || matches!(tokio::time::timeout(PING_WAIT, conn.ping()).await, Ok(Ok(())))
            {
                return Ok(conn);
            }
            conn.close_on_drop();
        }
    }

    async fn lend(&self) -> Result<Lent<DB>, StorageError> {
        loop {
            let troubles = self.troubles.load(Ordering::Relaxed);
            let generation = self.plans.generation(self.pool.size(), self.pool.num_idle());
            let (conn, has_old_plans, pooled_at) = match self.take_kept() {
                Some(kept) => (kept.conn, kept.plans != generation, kept.pooled_at),
                None => (self.pooled().await?, self.plans.were_idle.take_one(), Instant::now()),
            };
            let mut lent = Lent {
                pool: self.pool.clone(),
                conn: Some(conn),
                troubles,
                plans: (Arc::clone(&self.plans), generation),
                since: Instant::now(),
                pooled_at,
                kept: self.kept.clone(),
                close: false,
            };
            if !has_old_plans {
                return Ok(lent);
            }
            // Also when this future is dropped: nobody would notice that it hangs.
            lent.close = true;
            if let Ok(Ok(())) = tokio::time::timeout(PING_WAIT, forget_plans::<DB>(&mut lent)).await {
                lent.close = false;
                return Ok(lent);
            }
        }
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn read(&self) -> Result<Reader<DB>, StorageError> {
        let simulated = self.life.turn(false).await?;
        Ok(Reader { conn: self.lend().await?, _simulated: simulated })
    }

    /// A connection to write with; keep it no longer than the write takes.
    ///
    /// # Errors
    /// When none can be had.
    pub async fn write(&self) -> Result<Writer<DB>, StorageError> {
        let turn = if DB::SINGLE_WRITER { Some(Arc::clone(&self.turn).lock_owned().await) } else { None };
        let simulated = self.life.turn(true).await?;
        let conn = self.lend().await?;
        Ok(Writer { conn, can_close: !DB::is_ephemeral(&self.pool), _turn: turn, simulated })
    }
}

/// A connection, until it goes back to where it is kept, or to the pool.
#[derive(Debug)]
struct Lent<DB: Storage> {
    pool: Pool<DB>,
    /// None only while it is dropped.
    conn: Option<PoolConnection<DB>>,
    troubles: u32,
    plans: (Arc<Plans>, u32),
    since: Instant,
    pooled_at: Instant,
    kept: Option<Arc<Kept<DB>>>,
    close: bool,
}

impl<DB: Storage> Deref for Lent<DB> {
    type Target = PoolConnection<DB>;

    #[expect(clippy::expect_used, reason = "nobody but `drop` takes it")]
    fn deref(&self) -> &Self::Target {
        self.conn.as_ref().expect("a connection before it is dropped")
    }
}

impl<DB: Storage> DerefMut for Lent<DB> {
    #[expect(clippy::expect_used, reason = "nobody but `drop` takes it")]
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.conn.as_mut().expect("a connection before it is dropped")
    }
}

impl<DB: Storage> Drop for Lent<DB> {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        let (plans, generation) = &self.plans;
        plans.worked(self.since.elapsed());
        if self.close {
            conn.close_on_drop();
        } else if let Some(kept) = &self.kept
            && has_others(&self.pool)
        {
            let Self { troubles, pooled_at, .. } = *self;
            *lock(kept) = Some(KeptConnection { conn, troubles, plans: *generation, pooled_at });
        }
    }
}

/// A connection to read with.
#[derive(Debug)]
pub struct Reader<DB: Storage> {
    conn: Lent<DB>,
    _simulated: Turn,
}

impl<DB: Storage> Deref for Reader<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.conn
    }
}

impl<DB: Storage> DerefMut for Reader<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conn
    }
}

/// A connection whose turn it is to write.
#[derive(Debug)]
pub struct Writer<DB: Storage> {
    conn: Lent<DB>,
    /// Not where the data would go with the connection.
    can_close: bool,
    _turn: Option<OwnedMutexGuard<()>>,
    simulated: Turn,
}

impl<DB: Storage> Writer<DB> {
    /// Lets the connection be closed when it is dropped, unless it is [kept](Self::keep) before.
    pub(crate) fn close_unless_kept(&mut self) {
        self.conn.close = self.can_close;
    }

    /// Whether the connection may be closed: not where the data would go with it.
    pub(crate) const fn can_close(&self) -> bool {
        self.can_close
    }

    /// What a simulation does to whoever has it.
    pub(crate) fn simulated(&self) -> Turn {
        self.simulated.clone()
    }

    /// Lets the connection go back to the pool.
    pub(crate) fn keep(&mut self) {
        self.conn.close = false;
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

/// Whether there is a connection beside those that are lent or kept: the last one nobody keeps, or all would wait for it.
/// A pool that is closed waits for each.
fn has_others<DB: Storage>(pool: &Pool<DB>) -> bool {
    !pool.is_closed() && (pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections())
}

/// A server that refuses it goes on with its plans.
async fn forget_plans<DB: Storage>(conn: &mut DB::Connection) -> Result<(), StorageError> {
    match DB::forget_plans(conn).await {
        Err(StorageError::Database(error)) if DB::trouble(&error) == Trouble::Lasting => {
            tracing::debug!(%error, "plans are kept");
            Ok(())
        }
        other => other,
    }
}

fn lock<DB: Storage>(kept: &Kept<DB>) -> MutexGuard<'_, Option<KeptConnection<DB>>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
