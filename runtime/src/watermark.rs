//! The low watermark: from where a reader reads, past which nothing can be missing (SEMANTICS.md, rule 2).

/// A position in a table's sequence, and one further on that is not yet proven.
///
/// Numbers that were seen one after the other without a gap leave nothing to be proven, so a backlog is passed at once.
///
/// A sequence number may be missing because its transaction is still open. So after a read the position becomes a
/// *candidate* together with a horizon taken after that read. When every transaction open at the horizon has ended, what
/// they left below the candidate is there to be seen, and it is passed once a read that began later has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Watermark<H> {
    /// Sequence numbers are committed in their order, so that nothing can be missing.
    in_order: bool,
    low: i64,
    candidate: Option<Candidate<H>>,
    /// The latest run of numbers of which each was seen, first and last.
    run: (i64, i64),
}

#[derive(Clone, Debug)]
struct Candidate<H> {
    seq: i64,
    horizon: H,
    /// Whether the horizon has passed, so that one more read is all that is missing.
    has_passed: bool,
}

impl<H> Watermark<H> {
    pub(crate) const fn new(in_order: bool) -> Self {
        Self { in_order, low: 0, candidate: None, run: (1, 0) }
    }

    /// Reads start after this.
    pub(crate) const fn low(&self) -> i64 {
        self.low
    }

    /// The horizon to be checked before a read, if a candidate waits for it.
    pub(crate) fn unproven(&mut self) -> Option<&mut H> {
        self.candidate
            .as_mut()
            .filter(|candidate| !candidate.has_passed)
            .map(|candidate| &mut candidate.horizon)
    }

    /// The candidate's horizon has passed.
    pub(crate) fn proven(&mut self) {
        if let Some(candidate) = &mut self.candidate {
            candidate.has_passed = true;
        }
    }

    /// Whether reads go over positions that were read before.
    pub(crate) const fn rereads(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether the last row that a read has found is to become a candidate, so that a horizon has to be taken. `end` is how
    /// far the read came, or `None` where it came to the last row.
    pub(crate) fn wants_horizon(&self, last: Option<i64>, end: Option<i64>) -> bool {
        let is_free =
            |candidate: &Candidate<H>| candidate.has_passed && end.is_none_or(|end| end >= candidate.seq);
        last.is_some_and(|last| last > self.low)
            && !self.in_order
            && self.candidate.as_ref().is_none_or(is_free)
    }

    /// A read has found these numbers, in their order, none of which will be forgotten for longer than to the next sweep.
    pub(crate) fn saw(&mut self, seqs: impl Iterator<Item = i64>) {
        for seq in seqs {
            if seq == self.run.1 + 1 {
                self.run.1 = seq;
            } else if seq > self.run.1 {
                self.join_run();
                self.run = (seq, seq);
            }
        }
        self.join_run();
    }

    /// Passes the run where it begins at the watermark: each number belongs to one row, and all of them were seen.
    fn join_run(&mut self) {
        if self.run.0 <= self.low + 1 {
            self.low = self.low.max(self.run.1);
            self.candidate.take_if(|candidate| candidate.seq <= self.low);
        }
    }

    /// A read from the low watermark has found rows up to `last` and come to `end`, and what it found will not be forgotten.
    /// The horizon, where one was wanted, was taken after it.
    pub(crate) fn read(&mut self, last: Option<i64>, end: Option<i64>, horizon: Option<H>) {
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.has_passed) {
            let end = end.unwrap_or(i64::MAX);
            self.low = self.low.max(end.min(candidate.seq));
            if end < candidate.seq {
                self.candidate = Some(candidate);
            }
            self.join_run();
        }
        let Some(last) = last.filter(|last| *last > self.low) else {
            return;
        };
        if self.in_order {
            self.low = last;
        } else if let (None, Some(horizon)) = (&self.candidate, horizon) {
            self.candidate = Some(Candidate { seq: last, horizon, has_passed: false });
        }
    }

    /// Everything is to be read again: at start, takeover, after any lost connection, and every few seconds.
    pub(crate) fn reset(&mut self) {
        self.low = 0;
        self.candidate = None;
        self.run = (1, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_not_passed_before_its_horizon() {
        let mut watermark = Watermark::new(false);
        watermark.read(Some(2), None, Some("open")); // seq 1 is missing: its transaction is open
        watermark.read(None, None, None);
        assert_eq!(watermark.low(), 0, "seq 1 may still commit");
        watermark.read(Some(9), None, Some("later")); // the older horizon is the one that can pass first
        assert_eq!(watermark.unproven(), Some(&mut "open"));
    }

    #[test]
    fn what_was_committed_before_the_horizon_passed_is_read_before_the_watermark_goes_on() {
        let mut watermark = Watermark::new(false);
        watermark.read(Some(2), None, Some(()));
        watermark.proven();
        assert_eq!(watermark.low(), 0, "seq 1 is there now, and nobody has read it");
        assert_eq!(watermark.unproven(), None, "and no horizon is asked for again");
        watermark.read(Some(1), Some(1), None);
        assert_eq!(watermark.low(), 1, "a page that was full before the candidate counts for itself");
        assert!(!watermark.wants_horizon(Some(1), Some(1)) && watermark.wants_horizon(Some(2), Some(2)));
        watermark.read(Some(5), Some(5), None);
        assert_eq!(watermark.low(), 2, "what came later has a horizon of its own");
        assert!(!watermark.rereads());
    }

    #[test]
    fn where_numbers_are_committed_in_order_nothing_is_waited_for() {
        let mut watermark = Watermark::<()>::new(true);
        assert!(!watermark.wants_horizon(Some(3), None));
        watermark.read(Some(3), None, None);
        assert_eq!(watermark.low(), 3);
    }

    #[test]
    fn numbers_without_a_gap_are_passed_at_once() {
        let mut watermark = Watermark::<()>::new(false);
        watermark.saw(1..=500);
        assert_eq!(watermark.low(), 500);
        assert!(!watermark.wants_horizon(Some(500), Some(500)), "nothing is to be proven");
        watermark.read(Some(500), Some(500), None);
        watermark.saw([501, 502, 504].into_iter());
        assert_eq!(watermark.low(), 502, "503 may still commit");
        assert!(watermark.wants_horizon(Some(504), None));
    }

    #[test]
    fn what_follows_a_gap_is_passed_with_it() {
        let mut watermark = Watermark::new(false);
        watermark.saw(11..=20);
        watermark.read(Some(20), Some(20), Some(()));
        assert_eq!(watermark.low(), 0, "up to 10 all are missing");
        watermark.saw(21..=30);
        watermark.read(Some(30), Some(30), None);
        watermark.proven();
        // What came late belongs to no run, and is passed as before.
        watermark.saw([5].into_iter());
        watermark.read(Some(30), None, None);
        assert_eq!(watermark.low(), 30, "21 to 30 were seen");
        assert!(!watermark.rereads());
        watermark.saw(31..=40);
        assert_eq!(watermark.low(), 40);
    }

    #[test]
    fn a_run_that_begins_behind_a_gap_is_not_passed() {
        let mut watermark = Watermark::new(false);
        watermark.saw([1, 2].into_iter().chain(4..=9));
        watermark.read(Some(9), None, Some(()));
        watermark.saw([12].into_iter());
        watermark.proven();
        watermark.read(Some(12), None, None);
        assert_eq!(watermark.low(), 9, "10 and 11 came after the horizon");
        watermark.reset();
        watermark.saw(2..=3);
        assert_eq!(watermark.low(), 0, "and nothing is known any more");
    }

    #[test]
    fn a_reset_forgets_what_was_not_proven() {
        let mut watermark = Watermark::new(false);
        watermark.read(Some(5), None, Some(()));
        watermark.reset();
        watermark.proven();
        watermark.read(None, None, None);
        assert_eq!(watermark.low(), 0);
    }
}
