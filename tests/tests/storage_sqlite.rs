//! The storage conformance suite on SQLite, and what only SQLite can do wrong.

use distributed_events::storage::{Storage, StorageError, Trouble};
use sqlx::Sqlite;
use tests::fixtures::File;

#[path = "storage_sqlite/settings.rs"]
mod settings;
#[path = "storage_sqlite/transactions.rs"]
mod transactions;
#[path = "storage_sqlite/trouble.rs"]
mod trouble;

mod conformance {
    use tests::storage_conformance;

    storage_conformance!(crate::File);
}

/// Whether an error is one that passes by itself.
pub(crate) fn passes(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if Sqlite::trouble(error) == Trouble::Passing)
}

#[tokio::test]
async fn operators_read_little_of_what_is_retained() {
    tests::history::operators_read_little_of_what_is_retained::<File>().await;
}
