//! Several instances as processes on one database: MariaDB.

use tests::fixtures::MySqlDatabase;

tests::instances!(crate::MySqlDatabase);
