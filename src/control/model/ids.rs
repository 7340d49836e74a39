//! Ids and dates of new resources.

use std::collections::BTreeMap;

use super::ControlError;
use crate::time::{Clock as _, SystemClock};

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 64;

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

/// The id of a new resource: the value of the tag `_custom_id_`, or else random.
pub(super) fn new_id(tags: &BTreeMap<String, String>) -> Result<String, ControlError> {
    Ok(requested_id(tags)?.unwrap_or_else(|| random_alphanumeric(10)))
}

/// The id of a new resource that metrics and headers show: the value of the tag `_custom_id_`, or
/// else made from the name. An id that `is_taken` gets four random letters and digits behind it.
pub(super) fn new_readable_id(
    tags: &BTreeMap<String, String>,
    name: &str,
    is_taken: impl Fn(&str) -> bool,
) -> Result<String, ControlError> {
    if let Some(id) = requested_id(tags)? {
        return Ok(id);
    }
    let Some(mut id) = id_from_name(name) else { return Ok(random_alphanumeric(10)) };
    if is_taken(&id) {
        id.truncate(MAX_ID_BYTES - 5);
        let with_suffix = || format!("{id}-{}", random_alphanumeric(4));
        id = std::iter::repeat_with(with_suffix).find(|id| !is_taken(id)).unwrap_or_default();
    }
    Ok(id)
}

/// The value of the tag `_custom_id_`.
fn requested_id(tags: &BTreeMap<String, String>) -> Result<Option<String>, ControlError> {
    let Some(id) = tags.get("_custom_id_") else { return Ok(None) };
    if !crate::catalog::is_valid_name(id) {
        let why = "an id has 1 to 64 of the characters A-Z a-z 0-9 . _ -";
        return Err(ControlError::BadRequest(format!("tags._custom_id_: {why}")));
    }
    Ok(Some(id.clone()))
}

/// An id made from a name: its letters and digits in lower case, and a dash for all else. `None` if
/// the name has neither.
#[must_use]
pub fn id_from_name(name: &str) -> Option<String> {
    let mut id = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' => id.push(letter.to_ascii_lowercase()),
            _ if id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    // `.` and `..` are no segments of a URL's path.
    let mut id = id.trim_matches(['-', '.']).to_owned();
    id.truncate(MAX_ID_BYTES);
    Some(id.trim_end_matches(['-', '.']).to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_the_letters_and_digits_of_a_name() {
        for (name, id) in [
            ("Basic", "basic"),
            ("Team Gold (EU)", "team-gold-eu"),
            ("v1.2_x", "v1.2_x"),
            ("--a--b--", "a-b"),
            ("../a/..", "a"),
            ("Größe 3", "gr-e-3"),
        ] {
            assert_eq!(id_from_name(name).as_deref(), Some(id));
            assert!(crate::catalog::is_valid_name(id));
        }
        assert_eq!(id_from_name(&"a".repeat(99)).unwrap().len(), MAX_ID_BYTES);
        for name in ["!", "", ".", "..", "価格"] {
            assert_eq!(id_from_name(name), None);
        }
    }

    #[test]
    fn an_id_that_is_taken_gets_a_suffix_and_one_that_was_requested_none() {
        let none = BTreeMap::new();
        let long = "a".repeat(64);
        for name in ["Basic", &long] {
            let id = new_readable_id(&none, name, |id| !id.contains('-')).unwrap();
            assert!(crate::catalog::is_valid_name(&id) && id.len() <= MAX_ID_BYTES, "{id}");
            assert_eq!(id.rfind('-'), Some(id.len() - 5), "{id}");
        }
        let tags = [("_custom_id_".to_owned(), "own".to_owned())].into();
        assert_eq!(new_readable_id(&tags, "Basic", |_| true).unwrap(), "own");
        assert_eq!(new_readable_id(&none, "!", |_| false).unwrap().len(), 10);
    }
}
