//! All faults of a JSON value that is not of the form that is asked for.
//!
//! A parser ends at its first fault. So what is at fault is taken out of a copy, and the rest is
//! read again. Values of the right form do not come here.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{at_path, place_below, plain_message};

/// The most times that a value is read.
const MAX_READINGS: usize = 20;

/// The faults of a value at the path `at` of a larger one, each with its path. A member that is
/// missing because it was at fault is told only once.
#[must_use]
pub fn faults_at<T: DeserializeOwned>(at: &str, json: &Value) -> Vec<String> {
    let (mut rest, mut removed, mut faults) = (json.clone(), Vec::new(), Vec::new());
    for _ in 0..MAX_READINGS {
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&rest) else { break };
        let (path, message) = (error.path().to_string(), plain_message(error.inner()));
        let is_consequence = removed
            .iter()
            .any(|(parent, member)| *parent == path && message == format!("`{member}` is missing"));
        if !is_consequence {
            faults.push(at_path(&place_below(at, &path), &message));
        }
        match remove(&mut rest, error.path()) {
            Some(member) => removed.push(member),
            None => break,
        }
    }
    faults
}

/// Removes the member at a path, or the list that has it. Returns the path of its object and its
/// name; `None` if there is no member to remove.
fn remove(value: &mut Value, path: &Path) -> Option<(String, String)> {
    let segments: Vec<&Segment> = path.iter().collect();
    let is_member = |segment: &&Segment| matches!(segment, Segment::Map { .. });
    let last = segments.iter().rposition(is_member)?;
    // Only the end of the path may be places in lists.
    let mut object = value;
    for segment in &segments[..last] {
        object = match segment {
            Segment::Map { key } => object.get_mut(key)?,
            Segment::Seq { index } => object.get_mut(index)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    let Segment::Map { key } = segments[last] else { return None };
    object.as_object_mut()?.remove(key)?;
    Some((text_of(&segments[..last]), key.clone()))
}

/// A path as `serde_path_to_error` writes it.
fn text_of(segments: &[&Segment]) -> String {
    let mut text = String::new();
    for segment in segments {
        if !text.is_empty() && !matches!(segment, Segment::Seq { .. }) {
            text.push('.');
        }
        text.push_str(&segment.to_string());
    }
    if text.is_empty() { ".".into() } else { text }
}
