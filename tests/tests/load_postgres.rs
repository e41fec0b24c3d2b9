//! Load and abuse on PostgreSQL.

use tests::fixtures::PgDatabase;

tests::load!(crate::PgDatabase);
