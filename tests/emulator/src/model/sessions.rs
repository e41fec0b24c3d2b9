//! The sessions of an entity that requires them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ReceiverId, Time};

/// All sessions that have anything: messages, a lock or a state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sessions {
    all: BTreeMap<Arc<str>, Session>,
    /// Free sessions with something to receive, by their first message: the next one is the first.
    available: BTreeSet<(i64, Arc<str>)>,
    lock_ends: BTreeSet<(Time, Arc<str>)>,
    /// Of all states.
    state_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) ready: BTreeSet<i64>,
    pub(super) locked: BTreeSet<i64>,
    pub(super) holder: Option<Holder>,
    pub(super) state: Option<Bytes>,
    pub(super) state_set: Time,
}

/// Who has locked a session, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) receiver: ReceiverId,
    pub(super) until: Time,
}

impl Session {
    /// By what it is found as the next session.
    fn listed(&self) -> Option<i64> {
        if self.holder.is_none() { self.ready.first().copied() } else { None }
    }

    fn state_bytes(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.len() as u64)
    }

    fn is_blank(&self) -> bool {
        self.ready.is_empty() && self.locked.is_empty() && self.holder.is_none() && self.state.is_none()
    }
}

impl Sessions {
    pub(super) fn get(&self, id: &str) -> Option<&Session> {
        self.all.get(id)
    }

    pub(super) fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    pub(super) fn holder(&self, id: &str) -> Option<Holder> {
        self.get(id)?.holder
    }

    /// Changes a session, which begins and ends to exist by that, and keeps all that is derived from it.
    pub(super) fn change<R>(&mut self, id: &str, change: impl FnOnce(&mut Session) -> R) -> R {
        let key = match self.all.get_key_value(id) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(id),
        };
        let session = self.all.entry(Arc::clone(&key)).or_default();
        let (listed, holder) = (session.listed(), session.holder);
        self.state_bytes -= session.state_bytes();
        let result = change(session);
        self.state_bytes += session.state_bytes();
        let (now_listed, now_holder) = (session.listed(), session.holder);
        if session.is_blank() {
            self.all.remove(id);
        }
        if listed != now_listed {
            if let Some(first) = listed {
                self.available.remove(&(first, Arc::clone(&key)));
            }
            if let Some(first) = now_listed {
                self.available.insert((first, Arc::clone(&key)));
            }
        }
        if holder != now_holder {
            if let Some(holder) = holder {
                self.lock_ends.remove(&(holder.until, Arc::clone(&key)));
            }
            if let Some(holder) = now_holder {
                self.lock_ends.insert((holder.until, key));
            }
        }
        result
    }

    /// The free session that waits longest.
    pub(super) fn next(&self) -> Option<&str> {
        self.available.first().map(|(_, id)| &**id)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.lock_ends.first().map(|(until, _)| *until)
    }

    /// A session whose lock has ended by then.
    pub(super) fn ended(&self, now: Time) -> Option<Arc<str>> {
        self.lock_ends.first().filter(|(until, _)| *until <= now).map(|(_, id)| Arc::clone(id))
    }

    /// Those with messages or a state, or those whose state was set since a time.
    pub(super) fn list(&self, since: Option<Time>, skip: usize, top: usize) -> Vec<String> {
        self.all
            .iter()
            .filter(|(_, session)| match since {
                None => !session.ready.is_empty() || !session.locked.is_empty() || session.state.is_some(),
                Some(since) => session.state.is_some() && session.state_set >= since,
            })
            .skip(skip)
            .take(top)
            .map(|(id, _)| id.to_string())
            .collect()
    }
}
