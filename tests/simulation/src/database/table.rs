//! One table: committed rows, and what transactions under way have made of them.

use std::collections::BTreeMap;

/// A transaction's number.
pub type Tx = u64;

/// Another transaction has changed the row and not ended yet.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// Which.
    pub by: Tx,
}

/// Rows by their sequence numbers.
#[derive(Debug)]
pub struct Table<R> {
    rows: BTreeMap<i64, Cell<R>>,
    next: i64,
}

#[derive(Debug)]
struct Cell<R> {
    committed: Option<R>,
    /// What a transaction has made of it; none where it has deleted it.
    pending: Option<(Tx, Option<R>)>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), next: 1 }
    }
}

impl<R: Clone> Table<R> {
    /// Adds a row, which others see once it is committed. Its number is given out at once.
    pub fn insert(&mut self, tx: Tx, row: R) -> i64 {
        let seq = self.next;
        self.next += 1;
        self.rows.insert(seq, Cell { committed: None, pending: Some((tx, Some(row))) });
        seq
    }

    /// The rows that a transaction sees, or somebody outside of any, in their order.
    pub fn seen(&self, tx: Option<Tx>) -> impl Iterator<Item = (i64, &R)> {
        self.rows.iter().filter_map(move |(seq, cell)| {
            let row = match &cell.pending {
                Some((by, row)) if Some(*by) == tx => row.as_ref(),
                _ => cell.committed.as_ref(),
            };
            Some((*seq, row?))
        })
    }

    /// Who has added a row that fits and is not committed yet, other than this transaction.
    pub fn adding(&self, tx: Tx, fits: impl Fn(&R) -> bool) -> Option<Blocked> {
        self.rows.values().find_map(|cell| match &cell.pending {
            Some((by, Some(row))) if cell.committed.is_none() && *by != tx && fits(row) => {
                Some(Blocked { by: *by })
            }
            _ => None,
        })
    }

    /// Changes a row, where the change wants that (`None` leaves it, `Some(None)` deletes it); says whether it did.
    pub fn change(
        &mut self,
        tx: Tx,
        seq: i64,
        change: impl FnOnce(&R) -> Option<Option<R>>,
    ) -> Result<bool, Blocked> {
        let Some(cell) = self.rows.get_mut(&seq) else {
            return Ok(false);
        };
        let row = match &cell.pending {
            Some((by, _)) if *by != tx && cell.committed.is_some() => return Err(Blocked { by: *by }),
            Some((by, row)) if *by == tx => row.as_ref(),
            _ => cell.committed.as_ref(),
        };
        let Some(changed) = row.and_then(change) else {
            return Ok(false);
        };
        cell.pending = Some((tx, changed));
        Ok(true)
    }

    /// Ends a transaction: what it did stands, or never was.
    pub fn end(&mut self, tx: Tx, commits: bool) {
        self.rows.retain(|_, cell| {
            if cell.pending.as_ref().is_some_and(|(by, _)| *by == tx)
                && let Some((_, row)) = cell.pending.take()
                && commits
            {
                cell.committed = row;
            }
            cell.committed.is_some() || cell.pending.is_some()
        });
    }
}
