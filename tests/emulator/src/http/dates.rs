//! Points in time as texts: ISO 8601 in XML, RFC 1123 in headers and broker properties.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Time;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// What .NET can show at most.
const LAST: i64 = 253_402_300_799_999;

/// As the management API writes it. Time 0 is "never" here, which .NET writes as the year 1.
#[must_use]
pub(crate) fn iso(time: Time) -> String {
    match time.0 {
        0 => String::from("0001-01-01T00:00:00"),
        milliseconds => iso_milliseconds(i64::try_from(milliseconds).unwrap_or(LAST)),
    }
}

/// An AMQP timestamp as XML Schema's dateTime.
#[must_use]
pub(crate) fn iso_milliseconds(milliseconds: i64) -> String {
    // The year 1 is the first that .NET can show.
    let milliseconds = milliseconds.clamp(-62_135_596_800_000, LAST);
    let (days, rest) = (milliseconds.div_euclid(DAY), milliseconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
    let (seconds, fraction) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z")
}

/// Reads XML Schema's dateTime; without a zone it is UTC.
#[must_use]
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (digits(date.next()?)?, digits(date.next()?)?, digits(date.next()?)?);
    let (time, offset) = zone(time)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':');
    let (hours, minutes) = (digits(time.next()?)?, digits(time.next()?)?);
    let seconds = time.next().map_or(Some(0), digits)?;
    digits(fraction)?;
    let fraction = digits(&format!("{fraction:0<3}")[..3])?;
    let fine = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && (0..24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0..61).contains(&seconds);
    let in_day = ((hours * 60 + minutes - offset) * 60 + seconds) * 1000 + fraction;
    fine.then(|| days_since_1970(year, month, day) * DAY + in_day)
}

/// As broker properties and headers write it, in whole seconds.
#[must_use]
pub(crate) fn http(time: Time) -> String {
    let time = Time(time.0.min(LAST.unsigned_abs()));
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(time.0))
}

/// Reads RFC 1123 in GMT, or with an offset as some clients write it (`Tue, 24 Nov 2026 10:00:00 +0000`), or ISO 8601.
#[must_use]
pub(crate) fn parse_http(text: &str) -> Option<Time> {
    let text = text.trim();
    let offset = text.rfind([' ', '+', '-']).map(|at| text[at..].trim_start());
    let milliseconds = match offset {
        Some(offset) if offset.len() == 5 && offset.starts_with(['+', '-']) => {
            let minutes = minutes_of(offset)?;
            let date = text[..text.len() - 5].trim_end();
            http_milliseconds(&format!("{date} GMT"))? - minutes * 60_000
        }
        _ => http_milliseconds(text).or_else(|| parse_iso(text))?,
    };
    u64::try_from(milliseconds).ok().map(Time)
}

fn http_milliseconds(text: &str) -> Option<i64> {
    let time: SystemTime = httpdate::parse_http_date(text).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Takes the zone off: the rest, and the minutes it is ahead of UTC.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    match time.rfind(['+', '-']) {
        Some(at) => Some((&time[..at], minutes_of(&time[at..])?)),
        None => Some((time, 0)),
    }
}

/// Of `+01:00` or `+0100`.
fn minutes_of(offset: &str) -> Option<i64> {
    let (sign, rest) = match offset.as_bytes().first()? {
        b'+' => (1, &offset[1..]),
        b'-' => (-1, &offset[1..]),
        _ => return None,
    };
    let rest = rest.replacen(':', "", 1);
    if rest.len() != 4 {
        return None;
    }
    let number = digits(&rest)?;
    (number % 100 < 60).then_some(sign * (number / 100 * 60 + number % 100))
}

fn digits(text: &str) -> Option<i64> {
    let fine = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    fine.then(|| text.parse().ok())?
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years that begin in March have their odd day at the end: <https://howardhinnant.github.io/date_algorithms.html>.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read() {
        assert_eq!(iso(Time(1_795_459_266_125)), "2026-11-23T18:41:06.125Z");
        assert_eq!(iso(Time(951_782_400_000)), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(Time(0)), "0001-01-01T00:00:00");
        assert_eq!(iso(Time::NEVER), "9999-12-31T23:59:59.999Z");
        assert_eq!(http(Time(1_795_459_266_125)), "Mon, 23 Nov 2026 18:41:06 GMT");
        for day in (-719_162..2_932_896).step_by(17) {
            assert_eq!(parse_iso(&iso_milliseconds(day * DAY)), Some(day * DAY), "{day}");
        }
    }

    #[test]
    fn every_spelling_that_clients_use_is_understood() {
        for text in [
            "2026-11-23T18:41:06Z",
            "2026-11-23T18:41:06.0000000Z",
            "2026-11-23T19:41:06+01:00",
            "2026-11-23T18:41:06",
            "Mon, 23 Nov 2026 18:41:06 GMT",
            "Mon, 23 Nov 2026 18:41:06 +0000",
            "Mon, 23 Nov 2026 20:11:06 +0130",
        ] {
            assert_eq!(parse_http(text), Some(Time(1_795_459_266_000)), "{text}");
        }
        for wrong in [
            "",
            "x",
            "2026-11-23",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T18:41:06.xZ",
            "Mon, 23 Nov 2026 18:41:06 +00x0",
            "1969-12-31T23:59:59Z",
            "ü +0000",
        ] {
            assert_eq!(parse_http(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_no_date(text in "[0-9TZ:.+\\-é, a-zA-Z]{0,40}", prefix in 0usize..30) {
            let date = "2026-11-23T18:41:06.0000000+01:00";
            let _any = parse_http(&text);
            let _any = parse_iso(&format!("{}{text}", &date[..prefix]));
        }
    }
}
