//! How people write a length of time.

use std::time::Duration;

/// Reads a whole or decimal number and a unit, such as `50ms`; the error completes "`x` …".
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const HINT: &str = "is no length of time; write a number and us, ms, s or min, as in 50ms";
    let span = text.trim().parse::<jiff::SignedDuration>().map_err(|_| HINT)?;
    Duration::try_from(span).map_err(|_| "is negative; write a length such as 50ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
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
