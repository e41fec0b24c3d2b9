//! The low watermark: from where a reader reads, past which nothing can be missing (SEMANTICS.md, rule 2).

/// A position in a table's sequence, and one further on that is not yet proven.
///
/// A sequence number may be missing because its transaction is still open. So after a read the position becomes a
/// *candidate* together with a horizon taken after that read, and is passed only when every transaction open at the
/// horizon has ended.
#[derive(Clone, Debug)]
pub(crate) struct Watermark<H> {
    low: i64,
    candidate: Option<(i64, H)>,
}

impl<H> Watermark<H> {
    pub(crate) const fn new() -> Self {
        Self { low: 0, candidate: None }
    }

    /// Reads start after this.
    pub(crate) const fn low(&self) -> i64 {
        self.low
    }

    /// The horizon to be checked, if a candidate waits.
    pub(crate) fn unproven(&mut self) -> Option<&mut H> {
        self.candidate.as_mut().map(|(_, horizon)| horizon)
    }

    /// Whether reads go over positions that were read before.
    pub(crate) const fn is_unproven(&self) -> bool {
        self.candidate.is_some()
    }

    /// A read has seen everything visible up to here; the horizon was taken after it.
    pub(crate) fn seen(&mut self, seq: i64, horizon: H) {
        if self.candidate.is_none() && seq > self.low {
            self.candidate = Some((seq, horizon));
        }
    }

    /// The candidate's horizon has passed.
    pub(crate) fn proven(&mut self) {
        if let Some((seq, _)) = self.candidate.take() {
            self.low = self.low.max(seq);
        }
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
        assert_eq!(watermark.low(), 0, "seq 1 may still commit");
        watermark.seen(9, "later"); // the older horizon is the one that can pass first
        assert_eq!(watermark.unproven(), Some(&mut "open"));
        watermark.proven();
        assert_eq!(watermark.low(), 2);
    }

    #[test]
    fn a_reset_forgets_what_was_not_proven() {
        let mut watermark = Watermark::new();
        watermark.seen(5, ());
        watermark.reset();
        watermark.proven();
        assert_eq!(watermark.low(), 0);
    }
}
