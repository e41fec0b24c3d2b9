//! How values read on a page.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A duration, as coarse as people take it.
pub(super) fn span(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A number with its thousands apart.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// How many of what.
pub(super) fn count(number_of: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(number_of), if number_of == 1 { one } else { many })
}

/// Whether RFC 3339 has a text for it: something else may have written the row.
fn is_shown(time: SystemTime) -> bool {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < YEAR_10000)
}

pub(super) fn instant(time: SystemTime) -> String {
    if !is_shown(time) {
        return format!("{time:?}");
    }
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}

pub(super) fn time_of_day(time: SystemTime) -> String {
    instant(time).get(11..16).unwrap_or_default().to_owned()
}

/// A time, by the database's clock.
pub(super) fn time(time: SystemTime) -> Markup {
    html! {
        @if is_shown(time) { time datetime=(humantime::format_rfc3339_millis(time)) { (instant(time)) } }
        @else { (instant(time)) }
    }
}

/// Name and value pairs behind a `?`.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let between = if text.is_empty() { "" } else { "&" };
        let _ = write!(text, "{between}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    text
}

/// What can't be seen is made visible: a name could otherwise look like another one.
pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\n' | '\t' => char.to_string(),
            char if char.is_control() || is_turning(char) => char.escape_unicode().to_string(),
            char => char.to_string(),
        })
        .collect()
}

/// Turns the direction of what follows, or isn't seen at all.
const fn is_turning(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_coarse_as_people_take_them() {
        let shown = |millis| span(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(999), shown(1_500)], ["0 ms", "999 ms", "1.5 s"]);
        assert_eq!([shown(61_000), shown(3_660_000)], ["1 min 1 s", "1 h 1 min"]);
        assert_eq!(shown(200_000_000), "2 d 7 h");
    }

    #[test]
    fn no_time_of_a_row_is_too_strange_to_be_shown() {
        for seconds in [1, 400_000_000_000] {
            let early = SystemTime::UNIX_EPOCH - Duration::from_secs(seconds);
            let late = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert!([early, late].into_iter().all(|at| !time(at).into_string().is_empty()));
        }
    }

    #[test]
    fn numbers_and_queries_are_written_out() {
        assert_eq!(
            [number(7), number(1_234), number(12_345_678)],
            ["7", "1\u{2009}234", "12\u{2009}345\u{2009}678"]
        );
        assert_eq!(query(&[("next", "/outbox?a=b&c"), ("x", "é")]), "next=%2Foutbox%3Fa%3Db%26c&x=%C3%A9");
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible("a\u{202e}b\u{1b}[0m\n"), "a\\u{202e}b\\u{1b}[0m\n");
    }
}
