//! Ids and dates of new resources.

use std::collections::BTreeMap;

use super::ControlError;
use crate::time::{Clock as _, SystemClock};

/// The current time in seconds since 1970.
pub(super) fn now_secs() -> u64 {
    SystemClock.now().get() / 1_000_000
}

/// A random text of `length` lower-case letters and digits.
pub(in crate::control) fn random_alphanumeric(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(length);
    let mut random = [0; 64];
    while id.len() < length {
        getrandom::fill(&mut random).unwrap_or_else(|error| unreachable!("no randomness: {error}"));
        // 252 is a multiple of 36: no character is likelier than another.
        let letters = random.iter().filter(|&&byte| byte < 252);
        let letters = letters.map(|&byte| char::from(ALPHABET[usize::from(byte % 36)]));
        id.extend(letters.take(length - id.len()));
    }
    id
}

/// The id of a new resource: random, or the value of the tag `_custom_id_`.
pub(super) fn new_id(tags: &BTreeMap<String, String>) -> Result<String, ControlError> {
    let Some(id) = tags.get("_custom_id_") else { return Ok(random_alphanumeric(10)) };
    if !crate::catalog::is_valid_name(id) {
        let why = "an id has 1 to 64 of the characters A-Z a-z 0-9 . _ -";
        return Err(ControlError::BadRequest(format!("tags._custom_id_: {why}")));
    }
    Ok(id.clone())
}
