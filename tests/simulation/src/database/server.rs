//! The server: its tables, its clock, its transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::rows::{Business, InRow, InstanceRow, LeaseRow, OutRow, State};
use super::table::{Blocked, Table, Tx};
use crate::trace::Trace;

/// A database server of one service.
#[derive(Debug)]
pub struct Server {
    pub(super) name: String,
    trace: Trace,
    started: Instant,
    inner: Mutex<Inner>,
}

/// What it holds.
#[derive(Debug)]
pub struct Inner {
    pub(super) outbox: Table<OutRow>,
    pub(super) inbox: Table<InRow>,
    /// The service's own rows.
    pub business: Table<Business>,
    pub(super) leases: BTreeMap<String, LeaseRow>,
    pub(super) instances: BTreeMap<Uuid, InstanceRow>,
    /// Transactions under way, and when the server ends each by itself.
    under_way: BTreeMap<Tx, Option<Instant>>,
    last: Tx,
    away_until: Option<Instant>,
    /// By how much its clock is ahead, in milliseconds.
    ahead: i64,
    /// Ended without their clients, which don't know yet.
    ended: BTreeSet<Tx>,
}

impl Server {
    /// An empty one.
    pub fn new(name: &str, trace: Trace) -> Arc<Self> {
        let inner = Inner {
            outbox: Table::default(),
            inbox: Table::default(),
            business: Table::default(),
            leases: BTreeMap::new(),
            instances: BTreeMap::new(),
            under_way: BTreeMap::new(),
            last: 0,
            away_until: None,
            ahead: 0,
            ended: BTreeSet::new(),
        };
        Arc::new(Self { name: name.to_owned(), trace, started: Instant::now(), inner: Mutex::new(inner) })
    }

    /// Its tables, with everything ended that is overdue.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap();
        inner.end_overdue(Instant::now());
        inner
    }

    /// Milliseconds since 1970, by its clock.
    pub(super) fn now(&self, inner: &Inner) -> i64 {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        1_800_000_000_000 + since + inner.ahead
    }

    /// Puts its clock forward or back.
    pub fn set_clock(&self, by: i64) {
        self.trace.say(&self.name, || format!("its clock jumps by {by} ms"));
        self.inner().ahead += by;
    }

    /// Nobody reaches it for a while, and transactions under way are lost.
    pub fn go_away(&self, time: Duration) {
        self.trace.say(&self.name, || format!("is away for {time:?}"));
        let mut inner = self.inner();
        inner.away_until = Some(Instant::now() + time);
        let lost: Vec<_> = inner.under_way.keys().copied().collect();
        for tx in lost {
            inner.end_by_itself(tx);
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nobody reaches it.
    pub(super) fn is_away(&self) -> bool {
        self.inner.lock().unwrap().away_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Inner {
    /// Begins a transaction, which the server ends by itself at the given time.
    pub(super) fn begin(&mut self, until: Option<Instant>) -> Tx {
        self.last += 1;
        self.under_way.insert(self.last, until);
        self.last
    }

    /// Ends one; `false` where the server has done so before.
    pub(super) fn end(&mut self, tx: Tx, commits: bool) -> bool {
        let lives = self.under_way.remove(&tx).is_some();
        let commits = commits && lives;
        self.outbox.end(tx, commits);
        self.inbox.end(tx, commits);
        self.business.end(tx, commits);
        self.ended.remove(&tx);
        lives
    }

    /// Leaves a transaction whose client is gone until the server finds out.
    pub(super) fn orphan(&mut self, tx: Tx, until: Instant) {
        if let Some(end) = self.under_way.get_mut(&tx) {
            *end = Some(end.map_or(until, |end| end.min(until)));
        }
    }

    /// When the server ends a transaction by itself, from now on.
    pub(super) fn limit(&mut self, tx: Tx, until: Option<Instant>) {
        if let Some(end) = self.under_way.get_mut(&tx) {
            *end = until;
        }
    }

    fn end_by_itself(&mut self, tx: Tx) {
        self.end(tx, false);
        self.ended.insert(tx);
    }

    fn end_overdue(&mut self, now: Instant) {
        let overdue =
            |(tx, until): (&Tx, &Option<Instant>)| until.is_some_and(|until| until <= now).then_some(*tx);
        let overdue: Vec<_> = self.under_way.iter().filter_map(overdue).collect();
        for tx in overdue {
            self.end_by_itself(tx);
        }
    }

    /// Whether a transaction is under way.
    pub(super) fn lives(&self, tx: Tx) -> bool {
        self.under_way.contains_key(&tx)
    }

    /// The number of the next transaction.
    pub(super) const fn horizon(&self) -> Tx {
        self.last + 1
    }

    /// Whether every transaction before this one has ended.
    pub(super) fn has_passed(&self, horizon: Tx) -> bool {
        self.under_way.keys().next().is_none_or(|first| *first >= horizon)
    }

    /// Waits in the model are looks: whether the one that blocks is still there.
    pub(super) fn blocks(&self, blocked: Blocked) -> bool {
        self.lives(blocked.by)
    }

    /// How many rows are still to be done: in the outbox, and in the inbox.
    pub fn pending(&self) -> (usize, usize) {
        let outbox = self.outbox.seen(None).filter(|(_, row)| row.state == State::Pending).count();
        let inbox = self.inbox.seen(None).filter(|(_, row)| row.state == State::Pending).count();
        (outbox, inbox)
    }

    /// Whether no transaction is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Leases that somebody holds.
    pub fn held_leases(&self) -> usize {
        self.leases.values().filter(|lease| lease.owner.is_some()).count()
    }

    /// Adds a row of the service's own before anything else happens.
    pub fn found(&mut self, row: Business) -> i64 {
        let tx = self.begin(None);
        let seq = self.business.insert(tx, row);
        self.end(tx, true);
        seq
    }
}
