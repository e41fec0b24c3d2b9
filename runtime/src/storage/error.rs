//! What can go wrong with a database.

/// Why the storage could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The library's tables are not there: run `EventBus::migrate(&pool)` once before anything else, also in tests.
    #[error(
        "the tables of distributed-events are missing in {database}: run `EventBus::migrate(&pool).await?` before starting the bus or publishing"
    )]
    MissingTables {
        /// The database's identity.
        database: String,
    },
    /// The tables were written by a newer version of the library that this one can't work with: deploy the newer one.
    #[error(
        "the tables have version {found}, and this version of distributed-events knows versions up to {known}: use a newer version of the crate"
    )]
    NewerTables {
        /// What the database says.
        found: i64,
        /// What this library knows.
        known: i64,
    },
    /// Publish was called in a transaction that had begun without the write lock and has lost its snapshot: begin it
    /// with `pool.begin_with("BEGIN IMMEDIATE")`.
    #[error(
        "this transaction read before it wrote, and another writer came between: begin it with `pool.begin_with(\"BEGIN IMMEDIATE\")`"
    )]
    StaleSnapshot,
    /// Publish was called outside a live transaction: the transaction had been rolled back before.
    #[error(
        "the transaction is no longer alive, so the event would not be atomic with it: return the error that ended it"
    )]
    NoTransaction,
    /// An event with this id is in the outbox already, so this publish is a repetition: nothing was written.
    #[error("an event with the id {id} is in the outbox already")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A setting of the database endangers a promise: change it as the message says.
    #[error("{0}")]
    Unsafe(String),
    /// A row could not be read back: something else has written to the tables.
    #[error("a row of {table} can't be read: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The database's own error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What kind of trouble a database error is, which decides whether trying again can help (rule 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A deadlock, a lock timeout, a serialization failure, a lost connection, a full or read-only disk: not the handler's fault, try again
    /// without counting an attempt.
    Passing,
    /// Anything else.
    Lasting,
}
