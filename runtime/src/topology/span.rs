//! Lengths of time as Service Bus writes them: ISO 8601, `PT1M` or `P14D`.

use std::time::Duration;

/// What Service Bus writes for "for ever": the longest time that .NET knows.
pub(crate) const FOR_EVER: &str = "P10675199DT2H48M5.4775807S";
/// Times from here on are for ever. A second less than that text, which not everybody writes to the last digit.
const LONGEST: Duration = Duration::from_secs(10_675_199 * 86_400 + 2 * 3600 + 48 * 60 + 4);

/// Writes a time, or "for ever".
pub(crate) fn write(span: Option<Duration>) -> String {
    let Some(span) = span.filter(|span| *span < LONGEST) else { return FOR_EVER.to_owned() };
    let (seconds, milliseconds) = (span.as_secs(), span.subsec_millis());
    let part = |number: u64, unit: char| if number > 0 { format!("{number}{unit}") } else { String::new() };
    let days = part(seconds / 86_400, 'D');
    let mut time = part(seconds / 3600 % 24, 'H') + &part(seconds / 60 % 60, 'M');
    if milliseconds > 0 {
        let fraction = format!("{}.{milliseconds:03}", seconds % 60);
        time += &format!("{}S", fraction.trim_end_matches('0'));
    } else {
        time += &part(seconds % 60, 'S');
    }
    match (days.is_empty(), time.is_empty()) {
        (true, true) => "PT0S".to_owned(),
        (false, true) => format!("P{days}"),
        _ => format!("P{days}T{time}"),
    }
}

/// Reads a time; the outer none is for what isn't one, the inner for "for ever".
pub(crate) fn read(text: &str) -> Option<Option<Duration>> {
    let mut rest = text.trim().strip_prefix('P')?;
    let mut total = Duration::ZERO;
    let mut in_time = false;
    let mut parts = 0;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T')
            && !in_time
        {
            (rest, in_time) = (time, true);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = match (rest[end..].chars().next()?, in_time) {
            ('W', false) => 604_800.0,
            ('D', false) => 86_400.0,
            ('H', true) => 3_600.0,
            ('M', true) => 60.0,
            ('S', true) => 1.0,
            // Years and months have no fixed length.
            _ => return None,
        };
        // More than a duration holds is for ever, too.
        let span = Duration::try_from_secs_f64(number * unit).unwrap_or(Duration::MAX);
        total = total.saturating_add(span);
        rest = &rest[end + 1..];
        parts += 1;
    }
    (parts > 0).then(|| Some(total).filter(|total| *total < LONGEST))
}

/// Shows a time to people: `10 min`, `1 h 30 min`.
pub(crate) fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
        (span.subsec_millis().into(), "ms"),
    ];
    let shown: Vec<_> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    if shown.is_empty() { "0 s".to_owned() } else { shown.join(" ") }
}

/// For serde: as Service Bus writes them.
pub(crate) mod text {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::write(Some(*span)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::read(&text).flatten().ok_or_else(|| D::Error::custom(super::wrong(&text)))
    }
}

/// The same where there may be none.
pub(crate) mod optional_text {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.serialize_some(&super::write(Some(*span))),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) => super::read(&text).ok_or_else(|| D::Error::custom(super::wrong(&text))),
            None => Ok(None),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is not an ISO 8601 duration such as `PT1M` or `P14D`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_service_bus_writes_them_and_read_again() {
        for (milliseconds, text) in [
            (0, "PT0S"),
            (250, "PT0.25S"),
            (60_000, "PT1M"),
            (90_000, "PT1M30S"),
            (600_000, "PT10M"),
            (3_600_000, "PT1H"),
            (14 * 86_400_000, "P14D"),
            (93_784_500, "P1DT2H3M4.5S"),
        ] {
            let span = Duration::from_millis(milliseconds);
            assert_eq!(write(Some(span)), text);
            assert_eq!(read(text), Some(Some(span)), "{text}");
        }
    }

    #[test]
    fn for_ever_is_no_time() {
        assert_eq!(write(None), FOR_EVER);
        for text in [FOR_EVER, "P10675199DT2H48M5.477S", "P99999999999999999D"] {
            assert_eq!(read(text), Some(None), "{text}");
        }
        assert_eq!(write(Some(Duration::MAX)), FOR_EVER);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "P", "PT", "10", "PT5", "P1Y", "P1M", "PT1D", "1 min", "PT1MX"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn people_read_units() {
        assert_eq!(show(Duration::from_secs(600)), "10 min");
        assert_eq!(show(Duration::from_secs(5400)), "1 h 30 min");
        assert_eq!(show(Duration::ZERO), "0 s");
    }
}
