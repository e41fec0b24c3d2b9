//! What a service has to live through with its PostgreSQL server.

use tests::fixtures::PgDatabase;

tests::outages!(crate::PgDatabase);
