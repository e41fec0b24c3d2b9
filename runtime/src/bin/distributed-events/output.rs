//! What commands show: tables for people, JSON for scripts.

use std::io::Write as _;

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::Failure;

/// How a command shows what it has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    People,
    Json,
}

/// Writes text and ends its line.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    Ok(writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush())?)
}

/// Writes a value in one line.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    say(&value.to_string())
}

/// Columns under their names, without lines.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell)));
    }
    // Without the space before the first column and after the last.
    let lines: Vec<_> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Text that a terminal only shows: an event's name or an error may have been made by anybody, and what it could say to a
/// terminal is escaped.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || turns(letter) {
            clean.extend(letter.escape_default())
        } else {
            clean.push(letter)
        }
    }
    clean
}

/// Whether a letter changes the direction in which others are shown, or ends their line.
const fn turns(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Says something beside what was asked for; where nobody reads it, nothing is lost.
pub(crate) fn note(text: &str) {
    let _unread = writeln!(std::io::stderr().lock(), "{text}");
}

/// The beginning of a text, for a column.
pub(crate) fn short(text: &str, letters: usize) -> String {
    let mut short: String = text.chars().take(letters).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A number with its thousands told apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 row`, `2 rows`.
pub(crate) fn rows(count: u64) -> String {
    format!("{} {}", number(count), if count == 1 { "row" } else { "rows" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(clean("a\x1b[31mb\nc\u{9b}d"), "a\\u{1b}[31mb\\nc\\u{9b}d");
        assert_eq!(clean("Größe ✓"), "Größe ✓");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn columns_stand_under_their_names() {
        let text =
            table(["NAME", "N"], [["a".to_owned(), "1".to_owned()], ["long".to_owned(), String::new()]]);
        assert_eq!(text, "NAME  N\na     1\nlong");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((rows(1), rows(2_000)), ("1 row".to_owned(), "2,000 rows".to_owned()));
    }
}
