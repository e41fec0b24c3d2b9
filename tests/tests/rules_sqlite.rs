//! The rules of SEMANTICS.md, as a running bus keeps them, on SQLite.

use tests::fixtures::File;

tests::rules!(crate::File);
