//! Times as operators say them.

use std::time::{Duration, SystemTime};

/// A text that is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no time, such as 2026-11-28T07:30:00Z or 2026-11-28T10:00:00+02:00")]
pub struct NotATime;

/// An instant from its text by RFC 3339, with whatever offset. The seconds may be left out, or the whole time of day; without
/// an offset it is UTC.
///
/// ```
/// use distributed_events::admin::time_of;
///
/// assert_eq!(time_of("2026-11-28T10:00:00+02:00")?, time_of("2026-11-28 08:00")?);
/// # Ok::<(), distributed_events::admin::NotATime>(())
/// ```
///
/// # Errors
/// When it is none, or one before 1970.
pub fn time_of(text: &str) -> Result<SystemTime, NotATime> {
    let text = text.trim();
    if !text.is_ascii() {
        return Err(NotATime);
    }
    let (date, rest) = text.split_at_checked(10).ok_or(NotATime)?;
    let mut seconds = days(date)? * 86_400;
    let mut nanoseconds = 0;
    if !rest.is_empty() {
        let rest = rest.strip_prefix(['T', 't', ' ']).ok_or(NotATime)?;
        // What begins the offset is in no time of day.
        let (of_day, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
        let (of_day, fraction) =
            of_day.split_once('.').map_or((of_day, None), |(day, rest)| (day, Some(rest)));
        seconds += time_of_day(of_day)? - seconds_of(offset)?;
        if let Some(fraction) = fraction {
            // A fraction is one of a second.
            nanoseconds = if of_day.len() == 8 { nanoseconds_of(fraction)? } else { return Err(NotATime) };
        }
    }
    let since = Duration::new(u64::try_from(seconds).map_err(|_| NotATime)?, nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since).ok_or(NotATime)
}

/// A number of so many digits, and of nothing else.
fn digits(text: &str, count: usize) -> Result<i64, NotATime> {
    let is_number = text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { text.parse().map_err(|_| NotATime) } else { Err(NotATime) }
}

/// Days from 1970 to a date (H. Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days(date: &str) -> Result<i64, NotATime> {
    let mut parts = date.split('-');
    let mut part = |count| digits(parts.next().unwrap_or_default(), count);
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return Err(NotATime),
    };
    if parts.next().is_some() || !(1..=last).contains(&day) {
        return Err(NotATime);
    }
    // Years begin in March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn time_of_day(text: &str) -> Result<i64, NotATime> {
    let mut parts = text.split(':');
    let mut part = || parts.next().map(|part| digits(part, 2)).transpose();
    let (hour, minute, second) = (part()?, part()?.ok_or(NotATime)?, part()?.unwrap_or(0));
    let hour = hour.ok_or(NotATime)?;
    // A leap second is the one after it, as every database here has it.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return Err(NotATime);
    }
    Ok(hour * 3_600 + minute * 60 + second)
}

/// How far a place's time of day is ahead of UTC's.
fn seconds_of(offset: &str) -> Result<i64, NotATime> {
    let sign = match offset.bytes().next() {
        None | Some(b'Z' | b'z') if offset.len() <= 1 => return Ok(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(NotATime),
    };
    let (hours, minutes) = offset[1..].split_once(':').ok_or(NotATime)?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return Err(NotATime);
    }
    Ok(sign * (hours * 3_600 + minutes * 60))
}

fn nanoseconds_of(fraction: &str) -> Result<u32, NotATime> {
    digits(fraction, fraction.len()).ok().filter(|_| !fraction.is_empty()).ok_or(NotATime)?;
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().map_err(|_| NotATime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> u128 {
        time_of(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
    }

    #[test]
    fn an_offset_is_taken_off() {
        let utc = 1_795_852_800_000;
        for same in [
            "2026-11-28T08:00:00Z",
            "2026-11-28T10:00:00+02:00",
            "2026-11-28T02:30:00-05:30",
            "2026-11-29t00:00:00.000+16:00",
            "2026-11-27T18:00:00-14:00",
            "2026-11-28 08:00",
            " 2026-11-28T08:00z ",
        ] {
            assert_eq!(millis(same), utc, "{same}");
        }
        assert_eq!(millis("2026-11-28T08:00:00.1239+00:00"), utc + 123);
        assert_eq!(millis("2026-11-28"), utc - 8 * 3_600_000);
        assert_eq!((millis("1970-01-01"), millis("2000-02-29T23:59:60Z")), (0, 951_868_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-28T",
            "2026-11-28T8:00",
            "2026-13-01",
            "2026-02-29",
            "2026-11-31",
            "1900-02-29",
            "2026-11-28T24:00:00Z",
            "2026-11-28T08:60:00Z",
            "2026-11-28T08:00:00+2:00",
            "2026-11-28T08:00:00+0200",
            "2026-11-28T08:00:00ZZ",
            "2026-11-28T08:00:00.Z",
            "2026-11-28T08:00.5Z",
            "2026-11-28T08:00:00+24:00",
            "2026-11-28T08:00:00Z+02:00",
            "1969-12-31T23:59:59Z",
            "2026-11-28T08:00:00-+2:00",
            "２026-11-28",
        ] {
            assert_eq!(time_of(text), Err(NotATime), "{text}");
        }
    }
}
