//! Durations as people write them: `50ms`, `1s`.

use std::time::Duration;

/// Reads a whole or decimal number and a unit, such as `50ms`; the error completes "`x` …".
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const HINT: &str = "is not a duration; write a number and us, ms, s or min, as in 50ms";
    let span = text.trim().parse::<jiff::SignedDuration>().map_err(|_| HINT)?;
    Duration::try_from(span).map_err(|_| "is negative; write a duration such as 50ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, micros) in
            [("50ms", 50_000), ("1s", 1_000_000), ("250us", 250), ("2min", 120_000_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "50", "-1s", "1 lightyear"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
