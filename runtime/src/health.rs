//! How a bus is: what a probe asks, and what an operator reads of its answer.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::telemetry::seconds;

/// How a bus is, from [`EventBus::health`](crate::EventBus::health). It serializes to JSON, for a probe's body; show it to
/// those who operate the service only, because reasons repeat what the database and the broker have said.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Its loops run, or may still come to run: `false` asks for a restart of the process. Trouble with the database or a
    /// broker never makes it `false`, since a restart mends neither.
    pub live: bool,
    /// It runs, its database answers, and the tables are right: what is published is kept. A broker that is away doesn't
    /// make it `false`, because events wait in the outbox meanwhile.
    pub ready: bool,
    /// Everything that isn't as it should be, the worst first; empty where all is well.
    pub degraded: Vec<Reason>,
    /// The lanes whose outbox this bus relays.
    pub lanes: Vec<LaneHealth>,
    /// The subscriptions whose handlers this bus has.
    pub subscriptions: Vec<SubscriptionHealth>,
}

/// A lane, from here.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneHealth {
    /// Its name.
    pub name: String,
    /// Who leads it.
    pub lease: Holder,
    /// Its broker, as the relay has last seen it; it is not asked for this.
    pub broker: BrokerHealth,
    /// How long the oldest event has waited that could have been sent.
    #[serde(rename = "oldest_pending_ms", serialize_with = "millis")]
    pub oldest_pending: Option<Duration>,
}

/// A subscription, from here.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionHealth {
    /// Its name.
    pub name: String,
    /// Shards of its inbox that this instance works on.
    pub shards_here: usize,
    /// Those of other instances.
    pub shards_elsewhere: usize,
    /// Those that nobody has.
    pub shards_free: usize,
    /// How long the oldest event has waited that is not handled.
    #[serde(rename = "oldest_pending_ms", serialize_with = "millis")]
    pub oldest_pending: Option<Duration>,
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Holder {
    /// This instance.
    Here,
    /// Another one.
    Elsewhere,
    /// Nobody.
    Nobody,
}

/// A broker as a loop has last seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum BrokerHealth {
    /// Nothing was asked of it so far.
    Unknown,
    /// It has answered.
    Reachable,
    /// It does not answer.
    Away {
        /// For how long.
        #[serde(rename = "for_ms", serialize_with = "whole_millis")]
        lasting: Duration,
        /// What it said instead.
        error: String,
    },
}

/// Why a bus is not live, not ready, or not as well as it should be. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody runs the bus.
    NotStarted,
    /// It waits for its database or its brokers.
    Starting,
    /// It finishes what is under way.
    Stopping,
    /// It has stopped.
    Ended,
    /// A loop does not come round, although the database answers.
    LoopStuck {
        /// Which.
        name: String,
        /// For how long.
        lasting: Duration,
    },
    /// A loop has panicked of late.
    LoopRestarted {
        /// Which.
        name: String,
        /// How often since the start.
        times: u32,
    },
    /// The database does not answer within the probe's deadline.
    DatabaseSilent {
        /// The deadline.
        within: Duration,
    },
    /// The database refuses, or can't be reached.
    DatabaseTrouble {
        /// What it said.
        error: String,
    },
    /// The tables, or the settings that durability rests on, are not right.
    TablesWrong {
        /// What is wrong and what to do.
        problem: String,
    },
    /// A loop's broker does not answer.
    BrokerAway {
        /// Which loop.
        name: String,
        /// For how long.
        lasting: Duration,
        /// What it said instead.
        error: String,
    },
    /// Events wait in a lane that nobody leads.
    LaneWithoutLeader {
        /// The lane.
        lane: String,
    },
    /// Events wait in shards that nobody works on.
    ShardsWithoutWorker {
        /// The subscription.
        subscription: String,
        /// How many such shards.
        shards: usize,
    },
    /// Events of a lane have waited for longer than the threshold.
    OutboxLate {
        /// The lane.
        lane: String,
        /// How long the oldest has.
        oldest: Duration,
    },
    /// Events of a subscription have waited for longer than the threshold.
    InboxLate {
        /// The subscription.
        subscription: String,
        /// How long the oldest has.
        oldest: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("the bus does not run: call `run_until`"),
            Self::Starting => {
                f.write_str("the bus waits for its database or its brokers: look whether they run")
            }
            Self::Stopping => f.write_str("the bus stops: it finishes what is under way"),
            Self::Ended => f.write_str("the bus has stopped: its log says why; start the process again"),
            Self::LoopStuck { name, lasting } => write!(
                f,
                "the {name} has not come round for {}, although the database answers: restart the process, and report it",
                seconds(*lasting)
            ),
            Self::LoopRestarted { name, times } => write!(
                f,
                "the {name} has panicked ({times} times since the start) and was started again: the log has the panic; report it"
            ),
            Self::DatabaseSilent { within } => write!(
                f,
                "the database does not answer within {}: look at its load, its locks and the network",
                seconds(*within)
            ),
            Self::DatabaseTrouble { error } => {
                write!(
                    f,
                    "the database refuses or can't be reached: {error}; the loops wait and go on by themselves"
                )
            }
            Self::TablesWrong { problem } => f.write_str(problem),
            Self::BrokerAway { name, lasting, error } => write!(
                f,
                "the broker of the {name} has not answered for {}: {error}; events wait in the outbox and at the broker, and go on by themselves",
                seconds(*lasting)
            ),
            Self::LaneWithoutLeader { lane } => write!(
                f,
                "events wait in lane {lane} and nobody relays it: a leader that died is replaced when its lease has run out; if this lasts, start an instance that serves the lane"
            ),
            Self::ShardsWithoutWorker { subscription, shards } => write!(
                f,
                "events of subscription {subscription} wait in {shards} shards that nobody works on: those of an instance that died are taken over when its leases have run out; if this lasts, start an instance that handles them"
            ),
            Self::OutboxLate { lane, oldest } => write!(
                f,
                "the oldest event of lane {lane} has waited for {}: look at the broker, and at `distributed-events outbox list --state pending`",
                seconds(*oldest)
            ),
            Self::InboxLate { subscription, oldest } => write!(
                f,
                "the oldest event of subscription {subscription} has waited for {}: look at its handlers' errors with `distributed-events inbox list --state pending`, or add instances",
                seconds(*oldest)
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What counts as unwell.
#[derive(Clone, Debug)]
pub struct HealthThresholds {
    pub(crate) deadline: Duration,
    pub(crate) oldest_pending: Duration,
    pub(crate) stuck_after: Duration,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(2),
            oldest_pending: Duration::from_secs(300),
            stuck_after: Duration::from_secs(300),
        }
    }
}

impl HealthThresholds {
    /// How long the database may take to answer a probe (default 2 s): shorter than the probe's own timeout.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long an event may wait before its lane or subscription is told of (default 5 min).
    #[must_use]
    pub const fn oldest_pending(mut self, age: Duration) -> Self {
        self.oldest_pending = age;
        self
    }

    /// How long a loop may stay away while the database answers, before the bus is no longer live (default 5 min): longer
    /// than the longest backoff.
    #[must_use]
    pub const fn stuck_after(mut self, time: Duration) -> Self {
        self.stuck_after = time;
        self
    }
}

fn millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => whole_millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn whole_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
