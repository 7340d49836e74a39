//! Keys of methods in settings and throttles: a path and an HTTP method, in several spellings.
//!
//! AWS' clients write the path with a slash in front or without, and its slashes escaped or not:
//! `~1pets/GET`, `/pets/GET` and `pets/GET` are the same method. A map has one entry for it, under
//! the last spelling, because a client finds its own entry by the key that it has written.

use std::collections::BTreeMap;

use super::error::ControlError;
use super::methods::HTTP_METHODS;
use super::patch::PatchOperation;

/// True if two keys without escapes name the same method: slashes at the ends of the path do not
/// count.
fn is_same_method(one: &str, other: &str) -> bool {
    let segments = |key| str::split(key, '/').filter(|segment| !segment.is_empty());
    segments(one).eq(segments(other))
}

/// The value under a key, which may have another spelling; empty if there is none. From then on it
/// is under this key. `unescape` resolves the escapes of a key, if the map's keys have them.
pub(super) fn entry<V: Default>(
    methods: &mut BTreeMap<String, V>,
    key: String,
    unescape: fn(&str) -> String,
) -> &mut V {
    let was = remove(methods, &key, unescape);
    let value = methods.entry(key).or_default();
    if let Some(was) = was {
        *value = was;
    }
    value
}

/// Removes the value under a key, which may have another spelling.
pub(super) fn remove<V>(
    methods: &mut BTreeMap<String, V>,
    key: &str,
    unescape: fn(&str) -> String,
) -> Option<V> {
    let wanted = unescape(key);
    let is_same = |other: &&String| is_same_method(&unescape(other), &wanted);
    let spelled = methods.keys().find(is_same).cloned()?;
    methods.remove(&spelled)
}

/// Checks that the segments of a patch's path are those of a method.
pub(super) fn ensure_method(
    segments: &[&str],
    operation: &PatchOperation,
) -> Result<(), ControlError> {
    match segments {
        [_, .., method] if *method == "*" || HTTP_METHODS.contains(method) => Ok(()),
        _ => {
            let why = "a method is written as its path and its HTTP method, as in /~1pets/GET";
            Err(operation.error(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::unescape_pointer;

    #[test]
    fn the_spellings_of_a_method_are_one_entry_under_the_last_one() {
        let mut stage = BTreeMap::new();
        for key in ["~1a~1b~1/GET", "/a/b/GET", "a/b/GET", "~1/GET", "//GET", "/GET", "*/*", "/*/*"]
        {
            *entry(&mut stage, key.into(), unescape_pointer) += 1;
        }
        let counts: Vec<_> = stage.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        assert_eq!(counts, [("/*/*", 2), ("/GET", 3), ("a/b/GET", 3)]);
        assert_eq!(remove(&mut stage, "~1a~1b/POST", unescape_pointer), None);
        assert_eq!(remove(&mut stage, "~1a~1b/GET", unescape_pointer), Some(3));
    }
}
