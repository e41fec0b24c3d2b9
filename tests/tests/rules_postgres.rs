//! The rules of SEMANTICS.md, as a running bus keeps them, on PostgreSQL.

use tests::fixtures::PgDatabase;

tests::rules!(crate::PgDatabase);
