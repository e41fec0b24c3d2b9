//! Two services, killed at every point and at random, with their servers and wires: MariaDB.

use tests::fixtures::MySqlDatabase;

crash::crashes!(crate::MySqlDatabase);
