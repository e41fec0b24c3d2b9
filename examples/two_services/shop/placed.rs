//! What came of the input.

use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) published: u64,
    pub(crate) known: u64,
    pub(crate) malformed: u64,
}
