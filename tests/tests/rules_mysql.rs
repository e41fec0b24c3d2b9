//! The rules of SEMANTICS.md, as a running bus keeps them, on MariaDB.

use tests::fixtures::MySqlDatabase;

tests::rules!(crate::MySqlDatabase);
