//! Who may do what on a connection: the tokens that were put, and when they end.

use crate::model::Time;
use crate::sas::Grant;

/// Tokens of a connection. Nobody needs that many.
const MOST: usize = 1000;

/// What a connection may do.
#[derive(Debug)]
pub(super) struct Access {
    /// Its client has shown the key, or nobody is asked.
    everything: bool,
    /// By the names that they were put under.
    grants: Vec<(String, Grant)>,
}

impl Access {
    pub(super) fn new(everything: bool) -> Self {
        Self { everything, grants: Vec::new() }
    }

    /// Whether a token was put ever: without one a connection ends soon.
    pub(super) fn is_some(&self) -> bool {
        self.everything || !self.grants.is_empty()
    }

    pub(super) fn put(&mut self, name: &str, grant: Grant) {
        let name = name.to_lowercase();
        self.grants.retain(|(known, _)| *known != name);
        if self.grants.len() == MOST {
            self.grants.remove(0);
        }
        self.grants.push((name, grant));
    }

    /// Whether there is a token for that address that hasn't ended.
    pub(super) fn allows(&self, address: &str, now: Time) -> bool {
        self.everything || self.grants.iter().any(|(_, grant)| grant.expires() > now && grant.covers(address))
    }
}
