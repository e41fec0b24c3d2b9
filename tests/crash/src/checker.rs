//! What the books must say, whatever has happened. Knows rows and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::events::{Fate, LOOSE};

/// A line that ordering has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its session.
    pub session: i64,
    /// Its place there.
    pub n: i64,
    /// Its number.
    pub line: i64,
    /// What it costs.
    pub cents: i64,
    /// [`Fate::number`].
    pub fate: i64,
    /// How often it was counted as billed.
    pub billed: i64,
}

/// What a handler has written, in the order of writing: in billing's ledger, or among ordering's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its session.
    pub session: i64,
    /// Its place there.
    pub n: i64,
    /// The line's number.
    pub line: i64,
    /// What it costs.
    pub cents: i64,
}

/// Both services' tables once everything is quiet and everybody has stopped.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Ordering's lines, in any order.
    pub placed: Vec<Placed>,
    /// Billing's ledger, in its order.
    pub ledger: Vec<Entry>,
    /// Ordering's answers, in their order.
    pub answers: Vec<Entry>,
    /// The cents of all accounts at the start.
    pub opening: i64,
    /// The cents of all accounts now.
    pub accounts: i64,
    /// The cents in billing's tills.
    pub tills: i64,
    /// Rows that should have moved on: where, and how many.
    pub pending: Vec<(String, i64)>,
    /// Leases that somebody should have taken over or given back: where, and how many.
    pub orphans: Vec<(String, i64)>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A committed event was not handled.
    Lost(String),
    /// It was handled more than once.
    Doubled(String),
    /// Two of one session were handled the wrong way round.
    Reordered(String),
    /// An event of a rolled-back transaction was handled, or a handler's rolled-back transaction has left something.
    Phantom(String),
    /// Money was made or destroyed.
    Money(String),
    /// Rows are left although nothing happens any more.
    Pending(String),
    /// A lease is held by nobody alive.
    OrphanLease(String),
    /// A process ended that nobody had killed.
    Died(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Self::Lost(text) => ("lost", text),
            Self::Doubled(text) => ("doubled", text),
            Self::Reordered(text) => ("reordered", text),
            Self::Phantom(text) => ("phantom", text),
            Self::Money(text) => ("money", text),
            Self::Pending(text) => ("pending", text),
            Self::OrphanLease(text) => ("orphan lease", text),
            Self::Died(text) => ("died", text),
        };
        write!(f, "{kind}: {text}")
    }
}

/// Everything that is wrong.
pub fn check(books: &Books) -> Vec<Finding> {
    let mut findings = Vec::new();
    let billable: HashMap<i64, &Placed> = books
        .placed
        .iter()
        .filter(|placed| placed.fate != Fate::Refused.number())
        .map(|placed| (placed.line, placed))
        .collect();
    handled("the ledger", &books.ledger, &billable, &mut findings);
    handled("the answers", &books.answers, &billable, &mut findings);
    let mut answered: HashMap<i64, i64> = HashMap::new();
    for answer in &books.answers {
        *answered.entry(answer.line).or_default() += 1;
    }
    let answers = |placed: &Placed| answered.get(&placed.line).copied().unwrap_or_default();
    for placed in billable.values().filter(|placed| placed.billed != answers(placed)) {
        findings.push(Finding::Money(format!("line {} is billed {} times", placed.line, placed.billed)));
    }
    let stuck: i64 =
        books.placed.iter().filter(|placed| !billable.contains_key(&placed.line)).map(|p| p.cents).sum();
    let now = books.accounts + books.tills + stuck;
    if now != books.opening {
        let Books { accounts, tills, opening, .. } = books;
        findings.push(Finding::Money(format!(
            "{accounts} in the accounts, {tills} in the tills and {stuck} refused make {now} cents, not {opening}"
        )));
    }
    let left = |rows: &[(String, i64)]| -> Vec<String> {
        let some = rows.iter().filter(|(_, count)| *count != 0);
        some.map(|(place, count)| format!("{count} {place}")).collect()
    };
    findings.extend(left(&books.pending).into_iter().map(Finding::Pending));
    findings.extend(left(&books.orphans).into_iter().map(Finding::OrphanLease));
    findings
}

/// Each line once, none that was not placed, and each session in its order.
fn handled(place: &str, entries: &[Entry], billable: &HashMap<i64, &Placed>, findings: &mut Vec<Finding>) {
    let mut times: HashMap<i64, u64> = HashMap::new();
    let mut sessions: BTreeMap<i64, i64> = BTreeMap::new();
    for entry in entries {
        let Entry { session, n, line, cents } = *entry;
        let Some(placed) = billable.get(&line) else {
            let what = format!("{place}: line {line}, {session}:{n}, was never placed, or is refused");
            findings.push(Finding::Phantom(what));
            continue;
        };
        if (placed.session, placed.n, placed.cents) != (session, n, cents) {
            findings.push(Finding::Phantom(format!("{place}: {entry:?} is not what was placed: {placed:?}")));
        }
        let times = times.entry(line).or_default();
        *times += 1;
        // What comes again says nothing about the order of what came first.
        if *times > 1 || session == LOOSE {
            continue;
        }
        if let Some(before) = sessions.insert(session, n)
            && before > n
        {
            findings
                .push(Finding::Reordered(format!("{place}: {session}:{n} came after {session}:{before}")));
        }
    }
    let mut lines: Vec<_> = billable.values().collect();
    lines.sort_unstable_by_key(|placed| (placed.session, placed.n));
    for Placed { session, n, line, .. } in lines {
        match times.get(line) {
            None => findings.push(Finding::Lost(format!("{place}: line {line}, {session}:{n}, is missing"))),
            Some(1) => {}
            Some(times) => {
                findings.push(Finding::Doubled(format!(
                    "{place}: line {line}, {session}:{n}, is there {times} times"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(session: i64, n: i64, fate: Fate) -> Placed {
        let billed = i64::from(fate != Fate::Refused);
        Placed { session, n, line: session * 100 + n, cents: 10 + n, fate: fate.number(), billed }
    }

    fn entry(session: i64, n: i64) -> Entry {
        Entry { session, n, line: session * 100 + n, cents: 10 + n }
    }

    /// Two sessions of two lines each, and a refused one.
    fn good() -> Books {
        let all = [(1, 0), (2, 0), (1, 2), (2, 1)];
        let mut lines: Vec<_> = all.iter().map(|(session, n)| placed(*session, *n, Fate::Billed)).collect();
        lines.push(placed(1, 1, Fate::Refused));
        Books {
            placed: lines,
            ledger: all.iter().map(|(session, n)| entry(*session, *n)).collect(),
            answers: all.iter().map(|(session, n)| entry(*session, *n)).collect(),
            opening: 1000,
            accounts: 1000 - 54,
            tills: 43,
            pending: vec![("in ordering's outbox".to_owned(), 0)],
            orphans: vec![("in billing".to_owned(), 0)],
        }
    }

    fn found(damage: impl FnOnce(&mut Books)) -> Vec<String> {
        let mut books = good();
        damage(&mut books);
        check(&books).iter().map(|finding| finding.to_string()).collect()
    }

    #[track_caller]
    fn assert_found(damage: impl FnOnce(&mut Books), expected: &[&str]) {
        let found = found(damage);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
    }

    #[test]
    fn good_books_are_good() {
        assert_found(|_| {}, &[]);
    }

    #[test]
    fn a_lost_line_is_found() {
        assert_found(|books| books.ledger.truncate(3), &["lost: the ledger: line 201"]);
        assert_found(
            |books| {
                books.answers.remove(0);
                books.placed[0].billed = 0;
            },
            &["lost: the answers: line 100"],
        );
    }

    #[test]
    fn a_doubled_line_is_found() {
        assert_found(|books| books.ledger.push(entry(1, 0)), &["doubled: the ledger: line 100"]);
        assert_found(
            |books| {
                books.answers.insert(1, entry(1, 0));
                books.placed[0].billed = 2;
            },
            &["doubled: the answers: line 100"],
        );
    }

    #[test]
    fn a_reordered_session_is_found() {
        assert_found(|books| books.ledger.swap(1, 3), &["reordered: the ledger: 2:0 came after 2:1"]);
        assert_found(|books| books.answers.swap(0, 2), &["reordered: the answers: 1:0 came after 1:2"]);
    }

    #[test]
    fn what_has_no_session_has_no_order() {
        let loose = |books: &mut Books| {
            for n in [7, 3] {
                books.placed.push(placed(LOOSE, n, Fate::Billed));
                books.ledger.push(entry(LOOSE, n));
                books.answers.push(entry(LOOSE, n));
                (books.accounts, books.tills) = (books.accounts - 10 - n, books.tills + 10 + n);
            }
        };
        assert_found(loose, &[]);
    }

    #[test]
    fn a_phantom_is_found() {
        // Of a transaction that was rolled back in ordering, and of a handler's that was in billing.
        assert_found(|books| books.ledger.push(entry(2, 2)), &["phantom: the ledger: line 202"]);
        assert_found(|books| books.ledger.push(entry(1, 1)), &["phantom: the ledger: line 101"]);
        assert_found(|books| books.ledger[0].cents = 11, &["phantom: the ledger: Entry"]);
    }

    #[test]
    fn lost_and_made_money_is_found() {
        assert_found(|books| books.tills += 1, &["money: 946 in the accounts, 44 in the tills"]);
        assert_found(|books| books.accounts -= 1, &["money: 945 in the accounts"]);
        assert_found(|books| books.placed[2].billed = 2, &["money: line 102 is billed 2 times"]);
    }

    #[test]
    fn what_is_left_is_found() {
        assert_found(|books| books.pending[0].1 = 3, &["pending: 3 in ordering's outbox"]);
        assert_found(|books| books.orphans[0].1 = 1, &["orphan lease: 1 in billing"]);
    }
}
