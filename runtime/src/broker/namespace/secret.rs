//! Text that no log may show.

use std::fmt;
use std::sync::Arc;

use crate::crash;

/// A key or token. Its `Debug` form shows nothing of it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::broker) struct Secret(Arc<str>);

impl Secret {
    pub(in crate::broker) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// For the wire only.
    pub(in crate::broker) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crash::is_broken("secret") {
            return write!(f, "Secret({})", self.0);
        }
        f.write_str("Secret(…)")
    }
}
