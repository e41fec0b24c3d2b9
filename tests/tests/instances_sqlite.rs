//! Several instances as processes on one database: SQLite.

use tests::fixtures::File;

tests::instances!(crate::File);
