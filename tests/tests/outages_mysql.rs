//! What a service has to live through with its MariaDB server.

use tests::fixtures::MySqlDatabase;

tests::outages!(crate::MySqlDatabase);
