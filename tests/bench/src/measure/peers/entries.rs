//! Who takes part, in which settings, and what each promises. Why these settings: README.md.

use std::time::Duration;

use super::contestant::Mode;

/// What runs a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A program of `tests/bench/peers`.
    Rust,
    /// A module of Node.js.
    Node,
    /// A script of Python.
    Python,
}

impl Kind {
    /// As `peers/install` has it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Node => "node",
            Self::Python => "python",
        }
    }
}

/// How rows are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    /// Each by a commit of its own.
    Each,
    /// Many by one commit.
    Batch,
}

/// A library that does something of what ours does.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its name in its registry.
    pub(super) name: &'static str,
    /// The version that is pinned.
    version: &'static str,
    /// What runs it.
    pub(super) kind: Kind,
    /// Its driver: a word or a file.
    pub(super) driver: &'static str,
}

/// A peer in one of its settings.
#[derive(Debug)]
pub(super) struct Entry {
    /// Who.
    pub(super) peer: &'static Peer,
    /// `fast`, as its documentation says, or `default`.
    pub(super) settings: &'static str,
    /// How it settles.
    pub(super) contract: Contract,
    /// Whether settled rows are gone.
    pub(super) deletes: bool,
    /// Whether it is made for handlers that write to the database.
    pub(super) handles: bool,
    /// Where such a handler writes.
    writes: &'static str,
    /// Rows of a backlog, in full and quick.
    pub(super) rows: (i64, i64),
    /// Samples of a latency, in full and quick.
    pub(super) samples: (i64, i64),
    /// By how much the time between two of them varies: as long as it waits between two looks, where it looks.
    pub(super) spread: Duration,
}

impl Entry {
    /// Whether it is tuned.
    pub(super) fn is_fast(&self) -> bool {
        self.settings == FAST
    }

    /// Whether it comes so near to us in `processing` that it is worth a look why.
    pub(super) fn is_near(&self) -> bool {
        self.is_fast() && [HEXERACT.name, PG_BOSS.name].contains(&self.peer.name)
    }

    /// Short.
    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.peer.name, self.settings)
    }

    /// With what it promises.
    pub(super) fn describe(&self, mode: Mode) -> String {
        let Peer { name, version, .. } = self.peer;
        let contract = match self.contract {
            Contract::Each => "a commit for each event",
            Contract::Batch => "batched acknowledgement",
        };
        let what = match mode {
            Mode::Latency => return format!("{name} {version}"),
            Mode::Drain if self.deletes => "deletes",
            Mode::Drain => "keeps",
            Mode::Processing => self.writes,
        };
        format!("{name} {version}, {contract}, {what}")
    }
}

const FAST: &str = "fast";
const DEFAULT: &str = "default";

const BATCHED: (i64, i64) = (20_000, 5_000);
const EACH_FAST: (i64, i64) = (3_000, 1_500);
const EACH: (i64, i64) = (3_000, 500);
/// At their defaults two of them take one row, or one for each core, at each look, and look every 2 s or every second.
const HARDLY: (i64, i64) = (20, 5);

const OWN: &str = "insert in a transaction of its own";
const WITH_BATCH: &str = "insert in the batch's transaction";

const GRAPHILE_RS: Peer =
    Peer { name: "graphile_worker", version: "0.14.1", kind: Kind::Rust, driver: "graphile_worker" };
const HEXERACT: Peer = Peer { name: "hexeract", version: "0.6.0", kind: Kind::Rust, driver: "hexeract" };
const OUTBOX_CORE: Peer =
    Peer { name: "outbox-core", version: "0.6.0", kind: Kind::Rust, driver: "outbox-core" };
const GRAPHILE_JS: Peer = Peer {
    name: "graphile-worker (npm)",
    version: "0.18.0",
    kind: Kind::Node,
    driver: "graphile-worker.mjs",
};
const PG_BOSS: Peer = Peer { name: "pg-boss", version: "12.38.0", kind: Kind::Node, driver: "pg-boss.mjs" };
const FASTSTREAM: Peer = Peer {
    name: "faststream-outbox",
    version: "0.19.0",
    kind: Kind::Python,
    driver: "faststream_outbox_driver.py",
};

const fn entry(
    peer: &'static Peer,
    settings: &'static str,
    contract: Contract,
    deletes: bool,
    rows: (i64, i64),
) -> Entry {
    let (samples, spread) = ((100, 20), Duration::from_millis(100));
    Entry { peer, settings, contract, deletes, handles: true, writes: OWN, rows, samples, spread }
}

/// All of them.
pub(super) const ENTRIES: [Entry; 12] = [
    entry(&HEXERACT, FAST, Contract::Each, false, EACH_FAST),
    entry(&HEXERACT, DEFAULT, Contract::Each, false, EACH),
    Entry { handles: false, ..entry(&OUTBOX_CORE, FAST, Contract::Batch, false, BATCHED) },
    Entry { handles: false, ..entry(&OUTBOX_CORE, DEFAULT, Contract::Batch, false, BATCHED) },
    entry(&GRAPHILE_RS, FAST, Contract::Batch, true, BATCHED),
    entry(&GRAPHILE_RS, DEFAULT, Contract::Each, true, HARDLY),
    entry(&GRAPHILE_JS, FAST, Contract::Batch, true, BATCHED),
    entry(&GRAPHILE_JS, DEFAULT, Contract::Each, true, EACH),
    Entry { writes: WITH_BATCH, ..entry(&PG_BOSS, FAST, Contract::Batch, false, BATCHED) },
    Entry {
        samples: HARDLY,
        spread: Duration::from_secs(2),
        ..entry(&PG_BOSS, DEFAULT, Contract::Each, false, HARDLY)
    },
    entry(&FASTSTREAM, FAST, Contract::Batch, true, BATCHED),
    entry(&FASTSTREAM, DEFAULT, Contract::Each, true, EACH),
];
