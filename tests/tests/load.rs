//! Load and abuse on SQLite.

use tests::fixtures::File;

#[path = "load/duplicates.rs"]
mod duplicates;

tests::load!(crate::File);
