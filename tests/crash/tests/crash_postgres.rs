//! Two services, killed at every point and at random, with their servers and wires: PostgreSQL.

use tests::fixtures::PgDatabase;

crash::crashes!(crate::PgDatabase);
