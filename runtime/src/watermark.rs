//! The low watermark: from where a reader reads, past which nothing can be missing (SEMANTICS.md, rule 2).

/// A position in a table's sequence, and one further on that is not yet proven.
///
/// A sequence number may be missing because its transaction is still open. So after a read the position becomes a
/// *candidate* together with a horizon taken after that read. When every transaction open at the horizon has ended, what
/// they left below the candidate is there to be seen, and it is passed once a read that began later has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Watermark<H> {
    low: i64,
    candidate: Option<Candidate<H>>,
}

#[derive(Clone, Debug)]
struct Candidate<H> {
    seq: i64,
    horizon: H,
    /// Whether the horizon has passed, so that one more read is all that is missing.
    has_passed: bool,
}

impl<H> Watermark<H> {
    pub(crate) const fn new() -> Self {
        Self { low: 0, candidate: None }
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

    /// Whether a read that came to `end`, or to the last row where that is `None`, leaves room for a new candidate.
    pub(crate) fn takes_candidate(&self, end: Option<i64>) -> bool {
        self.candidate
            .as_ref()
            .is_none_or(|candidate| candidate.has_passed && end.is_none_or(|end| end >= candidate.seq))
    }

    /// A read from the low watermark has come to `end`, or to the last row where that is `None`, and what it found will not
    /// be forgotten.
    pub(crate) fn read_to(&mut self, end: Option<i64>) {
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.has_passed) {
            let end = end.unwrap_or(i64::MAX);
            self.low = self.low.max(end.min(candidate.seq));
            if end < candidate.seq {
                self.candidate = Some(candidate);
            }
        }
    }

    /// A read has seen everything visible up to here; the horizon was taken after it.
    pub(crate) fn seen(&mut self, seq: i64, horizon: H) {
        if self.candidate.is_none() && seq > self.low {
            self.candidate = Some(Candidate { seq, horizon, has_passed: false });
        }
    }

    /// The same where sequence numbers are committed in their order, so that nothing can be missing.
    pub(crate) fn seen_in_order(&mut self, seq: i64) {
        self.low = self.low.max(seq);
    }

    /// Everything is to be read again: at start, takeover, after any lost connection, and every few seconds.
    pub(crate) fn reset(&mut self) {
        self.low = 0;
        self.candidate = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_not_passed_before_its_horizon() {
        let mut watermark = Watermark::new();
        watermark.seen(2, "open"); // seq 1 is missing: its transaction is open
        watermark.read_to(None);
        assert_eq!(watermark.low(), 0, "seq 1 may still commit");
        watermark.seen(9, "later"); // the older horizon is the one that can pass first
        assert_eq!(watermark.unproven(), Some(&mut "open"));
    }

    #[test]
    fn what_was_committed_before_the_horizon_passed_is_read_before_the_watermark_goes_on() {
        let mut watermark = Watermark::new();
        watermark.seen(2, ());
        watermark.proven();
        assert_eq!(watermark.low(), 0, "seq 1 is there now, and nobody has read it");
        assert_eq!(watermark.unproven(), None, "and no horizon is asked for again");
        watermark.read_to(Some(1));
        assert_eq!(watermark.low(), 1, "a page that was full before the candidate counts for itself");
        assert!(!watermark.takes_candidate(Some(1)) && watermark.takes_candidate(Some(2)));
        watermark.read_to(Some(5));
        assert_eq!(watermark.low(), 2, "what came later has a horizon of its own");
        assert!(!watermark.rereads());
    }

    #[test]
    fn a_reset_forgets_what_was_not_proven() {
        let mut watermark = Watermark::new();
        watermark.seen(5, ());
        watermark.reset();
        watermark.proven();
        watermark.read_to(None);
        assert_eq!(watermark.low(), 0);
    }
}
