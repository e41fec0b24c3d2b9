//! Several instances as processes on one database: PostgreSQL.

use tests::fixtures::PgDatabase;

tests::instances!(crate::PgDatabase);
