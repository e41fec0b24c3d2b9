//! How long a busy service is left alone.

use std::time::Duration;

/// Where it doesn't say.
const BUSY: Duration = Duration::from_secs(2);
/// At most.
const LONGEST: Duration = Duration::from_secs(60);

/// For as long as it asks: "… Please wait 2 seconds and try again …".
pub(in crate::broker) fn wait_of(description: &str) -> Duration {
    let asked = || {
        let (_, rest) = description.split_once("wait ")?;
        let (number, rest) = rest.split_once(' ')?;
        rest.starts_with("second").then_some(Duration::from_secs(number.parse().ok()?))
    };
    asked().unwrap_or(BUSY).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_service_is_left_alone_for_as_long_as_it_asks() {
        let text = "The request was terminated because the entity is being throttled. Error code: 50009. \
                    Please wait 7 seconds and try again.";
        assert_eq!(wait_of(text), Duration::from_secs(7));
        assert_eq!(wait_of("busy"), BUSY);
        assert_eq!(wait_of("wait 99999999 seconds"), LONGEST);
    }
}
