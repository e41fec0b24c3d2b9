//! `LIKE`: `%` is any number of characters, `_` is one.

enum Piece {
    Any,
    One,
    Exactly(char),
}

/// `None` where the escape character stands before nothing.
pub(super) fn like(text: &str, pattern: &str, escape: Option<char>) -> Option<bool> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            c if Some(c) == escape => Piece::Exactly(chars.next()?),
            '%' => Piece::Any,
            '_' => Piece::One,
            c => Piece::Exactly(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // On a mismatch only the last `%` takes one character more: it never pays to go back behind it, so that the work
    // is at most text × pattern.
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let fits = match pieces.get(p) {
            Some(Piece::Any) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(Piece::One) => true,
            Some(Piece::Exactly(c)) => *c == text[t],
            None => false,
        };
        if fits {
            (t, p) = (t + 1, p + 1);
        } else if let Some((behind, taken)) = retry {
            retry = Some((behind, taken + 1));
            (t, p) = (taken + 1, behind);
        } else {
            return Some(false);
        }
    }
    Some(pieces[p..].iter().all(|piece| matches!(piece, Piece::Any)))
}
