//! Points and lengths of time, in milliseconds.

use std::fmt;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970. The model never asks for the time: it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// .NET ticks (100 ns since the year 1), as `com.microsoft:locked-until-utc` carries them.
    #[must_use]
    pub fn ticks(self) -> i64 {
        let milliseconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        milliseconds.saturating_mul(10_000).saturating_add(621_355_968_000_000_000)
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time in milliseconds; [`Span::FOREVER`] is what Service Bus writes as
/// `P10675199DT2H48M5.4775807S`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span(pub u64);

/// Every span from here on is "for ever": .NET's TimeSpan ends here.
const LONGEST: u64 = 10_675_199 * 86_400_000 + (2 * 3600 + 48 * 60 + 5) * 1000;

impl Span {
    /// Longer than everything.
    pub const FOREVER: Self = Self(u64::MAX);

    /// A length in whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Reads an ISO-8601 duration such as `PT1M30S` or `P14D`. Years and months have no fixed length: refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| format!("`{text}` is not an ISO-8601 duration such as PT1M30S or P14D"))
    }
}

fn parse(text: &str) -> Option<Span> {
    let mut rest = text.strip_prefix('P')?;
    let mut in_time = false;
    let mut total: f64 = 0.0;
    let mut units = "WDHMS";
    let mut parts = 0;
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            if in_time || time.is_empty() {
                return None;
            }
            in_time = true;
            rest = time;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        // Each unit once and from large to small: what is behind the one found is what may still come.
        units = &units[units.find(unit)? + 1..];
        if matches!(unit, 'W' | 'D') == in_time {
            return None;
        }
        total += number
            * match unit {
                'W' => 604_800_000.0,
                'D' => 86_400_000.0,
                'H' => 3_600_000.0,
                'M' => 60_000.0,
                _ => 1000.0,
            };
        parts += 1;
        rest = &rest[end + 1..];
    }
    if parts == 0 || !total.is_finite() {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as casts of floats saturate"
    )]
    let span = total.round() as u64;
    Some(if span >= LONGEST { Span::FOREVER } else { Span(span) })
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= LONGEST {
            return f.write_str("P10675199DT2H48M5.4775807S");
        }
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
        let (seconds, milliseconds) = (rest / 1000 % 60, rest % 1000);
        f.write_str("P")?;
        if days > 0 {
            write!(f, "{days}D")?;
        }
        if rest > 0 || days == 0 {
            f.write_str("T")?;
        }
        if hours > 0 {
            write!(f, "{hours}H")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}M")?;
        }
        if milliseconds > 0 {
            let fraction = format!("{milliseconds:03}");
            write!(f, "{seconds}.{}S", fraction.trim_end_matches('0'))?;
        } else if seconds > 0 || self.0 == 0 {
            write!(f, "{seconds}S")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_service_bus_does() {
        for (text, span) in [
            ("PT1M", Span(60_000)),
            ("PT1M30S", Span(90_000)),
            ("P14D", Span(14 * 86_400_000)),
            ("P1DT2H3M4.5S", Span(93_784_500)),
            ("PT0S", Span(0)),
            ("PT0.02S", Span(20)),
            ("P10675199DT2H48M5.4775807S", Span::FOREVER),
        ] {
            assert_eq!(Span::parse(text), Ok(span), "{text}");
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(Span::parse("PT90S"), Ok(Span(90_000)));
        assert_eq!(Span::parse("P1W"), Ok(Span(604_800_000)));
        for wrong in
            ["", "P", "PT", "1M", "PT1", "P1M", "P1Y", "P1S", "PT1D", "PT1S1M", "PT1M1M", "PT-1S", "PT1..S"]
        {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ticks_count_from_the_year_one() {
        assert_eq!(Time(0).ticks(), 621_355_968_000_000_000);
        assert_eq!(Time(1).ticks() - Time(0).ticks(), 10_000);
        assert_eq!(Time::NEVER.ticks(), i64::MAX);
    }
}
