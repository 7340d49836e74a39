//! `grpc-timeout`: the timeout of a request.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The request's timeout; unlimited if the header is missing or malformed
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(super) fn grpc_timeout(metadata: &MetadataMap) -> Duration {
    let value = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok());
    value.and_then(parse_timeout).unwrap_or(Duration::MAX)
}

/// Parses at most eight digits and a letter for the unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_parsed_as_grpc_defines_it() {
        assert_eq!(parse_timeout("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse_timeout("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        for nonsense in ["", "m", "20", "-1m", "123456789m", "2.5S", "1ü", "1x"] {
            assert_eq!(parse_timeout(nonsense), None, "{nonsense}");
        }
    }
}
