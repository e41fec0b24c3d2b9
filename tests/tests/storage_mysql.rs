//! The storage conformance suite on MariaDB (or MySQL), and what only these can do wrong.

use distributed_events::storage::{Storage, StorageError, Trouble};
use sqlx::MySql;
use tests::fixtures::MySqlDatabase;

mod conformance {
    use tests::storage_conformance;

    storage_conformance!(crate::MySqlDatabase);
}

/// Whether an error is one that passes by itself.
pub(crate) fn passes(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if MySql::trouble(error) == Trouble::Passing)
}

#[path = "storage_mysql/guarded.rs"]
mod guarded;
#[path = "storage_mysql/settings.rs"]
mod settings;
#[path = "storage_mysql/transactions.rs"]
mod transactions;
#[path = "storage_mysql/trouble.rs"]
mod trouble;

#[tokio::test]
async fn operators_read_little_of_what_is_retained() {
    tests::history::operators_read_little_of_what_is_retained::<MySqlDatabase>().await;
}
