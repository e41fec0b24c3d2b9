//! Load and abuse on MariaDB.

use tests::fixtures::MySqlDatabase;

tests::load!(crate::MySqlDatabase);
