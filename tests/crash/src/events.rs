//! What the two services tell each other.

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

/// Lines of this session's account carry no session: they may come in any order.
pub const LOOSE: i64 = 0;

/// What is to become of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is billed.
    Billed,
    /// The same, after its first attempt has failed.
    Retried,
    /// It is never billed and ends dead.
    Refused,
}

impl Fate {
    /// As the books have it.
    pub const fn number(self) -> i64 {
        match self {
            Self::Billed => 0,
            Self::Retried => 1,
            Self::Refused => 2,
        }
    }
}

/// The `n`-th line of a session; several make an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinePlaced {
    /// Its session, which is an account.
    pub session: i64,
    /// Its place there.
    pub n: i64,
    /// Its number, different for each attempt to place it.
    pub line: i64,
    /// What it costs.
    pub cents: i64,
    /// What is to become of it.
    pub fate: Fate,
}

/// Billing's answer, of the same session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LineBilled {
    /// As in [`LinePlaced`].
    pub session: i64,
    /// As in [`LinePlaced`].
    pub n: i64,
    /// As in [`LinePlaced`].
    pub line: i64,
    /// As in [`LinePlaced`].
    pub cents: i64,
}

fn session(number: i64) -> Option<String> {
    (number != LOOSE).then(|| format!("account-{number}"))
}

impl DistributedEvent for LinePlaced {
    const NAME: &'static str = "ordering.line-placed";
    const TOPIC: Option<&'static str> = Some("lines");
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        session(self.session)
    }
}

impl DistributedEvent for LineBilled {
    const NAME: &'static str = "billing.line-billed";
    const TOPIC: Option<&'static str> = Some("answers");
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        session(self.session)
    }
}
