//! Two services, killed at every point and at random, with their servers and wires: SQLite.

use tests::fixtures::File;

crash::crashes!(crate::File);
