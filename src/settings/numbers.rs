//! The ranges of the settings that are numbers.

use super::SettingsError;
use super::raw::RawSettings;

/// Checks that each number is within its range.
pub(super) fn check(raw: &RawSettings) -> Result<(), SettingsError> {
    let invalid = |key, why: &str| Err(SettingsError::Value { key, why: why.into() });
    if !(1..=10_000_000).contains(&raw.max_connections) {
        return invalid("max_connections", "must be between 1 and 10000000");
    }
    if raw.min_nodes == 0 {
        return invalid("min_nodes", "must be at least 1");
    }
    if raw.max_memory_rows == 0 {
        return invalid("max_memory_rows", "must be at least 1");
    }
    if raw.top_keys > 1_000 {
        return invalid("top_keys", "must be between 0 and 1000");
    }
    if raw.log_refusals > 1_000 {
        return invalid("log_refusals", "must be between 0 and 1000");
    }
    Ok(())
}
