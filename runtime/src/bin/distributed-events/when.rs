//! Times and spans of time, as they are said and shown.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A point in time, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Ago(Duration),
    At(SystemTime),
}

impl When {
    /// The instant, where it is this time now by the database's clock.
    pub(crate) fn before(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => {
                now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
            }
            Self::At(time) => time,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        distributed_events::admin::time_of(text).map(Self::At).map_err(|_| {
            "it is neither a time, such as 2026-11-28T07:30:00Z or 2026-11-28T10:00:00+02:00, nor how long ago, such as 90s, \
             15m, 2h or 7d"
                .to_owned()
        })
    }
}

/// A span of time, such as `500ms` or `2h 30m`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "it is no span of time, such as 500ms, 90s, 15m, 2h or 7d".to_owned())
}

/// A span for people: as exact as they want to know it.
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(span) = *self;
        if span < Duration::from_secs(1) {
            return f.pad(&format!("{} ms", span.as_millis()));
        }
        if span < Duration::from_secs(60) {
            return f.pad(&format!("{:.1} s", span.as_secs_f64()));
        }
        let seconds = span.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        f.pad(&match (days, hours) {
            (0, 0) => format!("{minutes} min {} s", seconds % 60),
            (0, _) => format!("{hours} h {minutes} min"),
            _ => format!("{days} d {hours} h"),
        })
    }
}

/// A pause between two looks.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let pause = span(text)?;
    if pause >= Duration::from_millis(100) { Ok(pause) } else { Err("it is shorter than 100ms".to_owned()) }
}

/// How much later rows may be due: no longer than a publisher may delay an event.
pub(crate) fn delay(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(3_650 * 86_400);
    span(text).and_then(
        |delay| if delay <= MOST { Ok(delay) } else { Err("it is longer than ten years".to_owned()) },
    )
}

/// Whether RFC 3339 has a text for it: something else may have written the row.
fn is_shown(time: SystemTime) -> bool {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < YEAR_10000)
}

/// A time for people: UTC, whole seconds.
pub(crate) fn time(time: SystemTime) -> String {
    if is_shown(time) { humantime::format_rfc3339_seconds(time).to_string() } else { format!("{time:?}") }
}

/// A time for scripts: UTC, milliseconds.
pub(crate) fn exact(time: SystemTime) -> String {
    if is_shown(time) { humantime::format_rfc3339_millis(time).to_string() } else { format!("{time:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_either_way() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!("15m".parse::<When>().unwrap().before(now), now - Duration::from_secs(900));
        let at = "1970-01-02T00:00:00Z".parse::<When>().unwrap();
        assert_eq!(at.before(now), SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        let there = "1970-01-02T02:00:00+02:00".parse::<When>().unwrap();
        assert_eq!(there, When::At(at.before(now)), "wherever it is said");
        assert!("yesterday".parse::<When>().unwrap_err().contains("15m"));
        assert_eq!("300000d".parse::<When>().unwrap().before(now), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn no_time_of_a_row_is_too_strange_to_be_shown() {
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000);
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        for strange in [late, early] {
            assert!(!time(strange).is_empty() && !exact(strange).is_empty());
        }
        assert!(delay("10000y").is_err());
    }

    #[test]
    fn spans_are_as_exact_as_people_want_them() {
        let shown = |millis| Shown(Duration::from_millis(millis)).to_string();
        assert_eq!(shown(12), "12 ms");
        assert_eq!(shown(3_240), "3.2 s");
        assert_eq!(shown(61_000), "1 min 1 s");
        assert_eq!(shown(3 * 3_600_000 + 5 * 60_000), "3 h 5 min");
        assert_eq!(shown(49 * 3_600_000), "2 d 1 h");
    }
}
