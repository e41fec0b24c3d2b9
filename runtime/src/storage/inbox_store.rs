//! An inbox behind an object-safe door, so that the local broker can deliver across kinds of databases.

use std::fmt::Debug;
use std::future::Future;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::{Database, Pool};
use tokio::sync::OnceCell;

use super::{Connections, IncomingEvent, IngestReport, PoolSettings, Reader, Storage, StorageError, Writer};
use crate::simulated::Life;
use crate::{crash, wake};

/// A local subscription as the publisher's database records it (rule 27).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalSubscription {
    /// The topic it stands on.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// The event names it takes, aliases included.
    pub events: Vec<String>,
    /// The identity of the database whose inbox it fills.
    pub store: String,
}

/// An event that a local subscription has not got yet, because its store was down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedEvent {
    /// Its place among what is owed.
    pub seq: i64,
    /// The subscription it is for.
    pub subscription: String,
    /// The event.
    pub event: IncomingEvent,
}

/// A service's database as the local broker sees it: an inbox to deliver to, and a memory of whom to deliver to.
pub trait InboxStore: Send + Sync + Debug {
    /// A name of the database that two processes on one machine agree on, free of secrets.
    fn identity(&self) -> &str;

    /// Stores events in the inbox of a subscription, as [`Storage::ingest`] does, and wakes its processor.
    fn ingest<'a>(
        &'a self,
        subscription: &'a str,
        events: &'a [IncomingEvent],
    ) -> BoxFuture<'a, Result<IngestReport, StorageError>>;

    /// Adds to the recorded subscriptions of a store. None is ever taken back here: another process of the same service,
    /// or an older version of it, may take what this one doesn't name, and what is not delivered is lost, while what
    /// nobody handles any more ends dead and is seen.
    fn record_subscriptions<'a>(
        &'a self,
        store: &'a str,
        subscriptions: &'a [LocalSubscription],
    ) -> BoxFuture<'a, Result<(), StorageError>>;

    /// All recorded subscriptions.
    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<LocalSubscription>, StorageError>>;

    /// Keeps events for a store that is down, in the given order.
    fn owe<'a>(
        &'a self,
        store: &'a str,
        subscription: &'a str,
        events: &'a [IncomingEvent],
    ) -> BoxFuture<'a, Result<(), StorageError>>;

    /// The oldest events owed to a store.
    fn owed<'a>(&'a self, store: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<OwedEvent>, StorageError>>;

    /// Forgets owed events that were delivered.
    fn paid<'a>(&'a self, seqs: &'a [i64]) -> BoxFuture<'a, Result<(), StorageError>>;
}

/// What the local broker needs of a kind of database: the publisher's memory of its subscriptions.
pub trait LocalStorage: Database {
    /// See [`InboxStore::record_subscriptions`].
    fn record_subscriptions(
        conn: &mut Self::Connection,
        store: &str,
        subscriptions: &[LocalSubscription],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// See [`InboxStore::subscriptions`].
    fn subscriptions(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Vec<LocalSubscription>, StorageError>> + Send;

    /// Forgets a subscription of a store for good, and what it is owed; returns how many events that was.
    fn forget_subscription(
        conn: &mut Self::Connection,
        store: &str,
        name: &str,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send;

    /// See [`InboxStore::owe`].
    fn owe(
        conn: &mut Self::Connection,
        store: &str,
        subscription: &str,
        events: &[IncomingEvent],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// See [`InboxStore::owed`].
    fn owed(
        conn: &mut Self::Connection,
        store: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<OwedEvent>, StorageError>> + Send;

    /// See [`InboxStore::paid`].
    fn paid(
        conn: &mut Self::Connection,
        seqs: &[i64],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// The [`InboxStore`] of a database, over connections of the library's own.
#[derive(Debug)]
pub struct PoolInbox<DB: Storage> {
    given: Pool<DB>,
    settings: Option<PoolSettings>,
    opened: OnceCell<Connections<DB>>,
    identity: String,
    life: Life,
}

impl<DB: Storage> PoolInbox<DB> {
    /// The store of a pool that [`Storage::open`] has opened.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        let (identity, life) = (DB::identity(&pool), Life::current());
        Self { identity, given: pool, settings: None, opened: OnceCell::new(), life }
    }

    /// The store of connections that other loops share.
    #[must_use]
    pub fn over(connections: Connections<DB>) -> Self {
        let given = connections.pool().clone();
        Self { opened: OnceCell::new_with(Some(connections)), ..Self::new(given) }
    }

    /// The store of a user's pool, beside which a small one is opened at the first use.
    #[must_use]
    pub fn beside(pool: Pool<DB>, settings: PoolSettings) -> Self {
        Self { settings: Some(settings), ..Self::new(pool) }
    }

    /// The library's own connections.
    ///
    /// # Errors
    /// When they can't be opened; the next use tries again.
    pub async fn connections(&self) -> Result<&Connections<DB>, StorageError> {
        self.opened
            .get_or_try_init(|| async {
                let _turn = self.life.turn(true).await?;
                let opened = match &self.settings {
                    Some(settings) => DB::open(&self.given, settings).await?,
                    None => self.given.clone(),
                };
                Ok(Connections::from(opened).of(self.life.clone()))
            })
            .await
    }

    async fn read(&self) -> Result<Reader<DB>, StorageError> {
        self.connections().await?.read().await
    }

    async fn write(&self) -> Result<Writer<DB>, StorageError> {
        self.connections().await?.write().await
    }
}

impl<DB: Storage> InboxStore for PoolInbox<DB> {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn ingest<'a>(
        &'a self,
        subscription: &'a str,
        events: &'a [IncomingEvent],
    ) -> BoxFuture<'a, Result<IngestReport, StorageError>> {
        Box::pin(async move {
            crash::point("inbox.before-ingest");
            let report = DB::ingest(&mut *self.write().await?, subscription, events).await?;
            crash::point("inbox.after-ingest");
            if report.inserted > 0 {
                wake::received(subscription);
            }
            Ok(report)
        })
    }

    fn record_subscriptions<'a>(
        &'a self,
        store: &'a str,
        subscriptions: &'a [LocalSubscription],
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(
            async move { DB::record_subscriptions(&mut *self.write().await?, store, subscriptions).await },
        )
    }

    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<LocalSubscription>, StorageError>> {
        Box::pin(async move { DB::subscriptions(&mut *self.read().await?).await })
    }

    fn owe<'a>(
        &'a self,
        store: &'a str,
        subscription: &'a str,
        events: &'a [IncomingEvent],
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            crash::point("local.before-owing");
            DB::owe(&mut *self.write().await?, store, subscription, events).await?;
            crash::point("local.owed");
            Ok(())
        })
    }

    fn owed<'a>(&'a self, store: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<OwedEvent>, StorageError>> {
        Box::pin(async move { DB::owed(&mut *self.read().await?, store, limit).await })
    }

    fn paid<'a>(&'a self, seqs: &'a [i64]) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            crash::point("local.before-paying");
            DB::paid(&mut *self.write().await?, seqs).await?;
            crash::point("local.paid");
            Ok(())
        })
    }
}
