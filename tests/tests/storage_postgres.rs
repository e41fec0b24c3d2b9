//! The storage conformance suite on PostgreSQL, and what only PostgreSQL can do wrong.

use distributed_events::storage::{Storage, StorageError, Trouble};
use sqlx::Postgres;

#[path = "storage_postgres/horizons.rs"]
mod horizons;
#[path = "storage_postgres/one_connection.rs"]
mod one_connection;
#[path = "storage_postgres/pgbouncer.rs"]
mod pgbouncer;
#[path = "storage_postgres/settings.rs"]
mod settings;
#[path = "storage_postgres/side_by_side.rs"]
mod side_by_side;
#[path = "storage_postgres/transactions.rs"]
mod transactions;
#[path = "storage_postgres/trouble.rs"]
mod trouble;

mod conformance {
    use tests::storage_conformance;

    storage_conformance!(tests::fixtures::PgDatabase);
}

/// As behind a pooler: statements without names, in explicit transactions.
mod conformance_without_names {
    use tests::storage_conformance;

    storage_conformance!(tests::fixtures::PgDatabase<false>);
}

/// Whether an error is one that passes by itself.
pub(crate) fn passes(error: &StorageError) -> bool {
    matches!(error, StorageError::Database(error) if Postgres::trouble(error) == Trouble::Passing)
}

#[tokio::test]
async fn operators_read_little_of_what_is_retained() {
    tests::history::operators_read_little_of_what_is_retained::<tests::fixtures::PgDatabase>().await;
}
