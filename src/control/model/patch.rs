//! AWS' patch operations: an operation, a path of escaped segments, and a value that is text.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html>. Each resource knows
//! its own paths. `move` and `test` are not supported; `copy` is read by the resource that has it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ControlError;
use crate::object::object_list;

/// A patch of a resource, as requested.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// The operations, in their order.
    #[serde(default, deserialize_with = "object_list")]
    pub patch_operations: Vec<PatchOperation>,
}

/// One operation of a patch, as requested.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PatchOperation {
    op: String,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The path that `copy` copies. Clients send it empty with other operations.
    #[serde(default, skip_serializing)]
    from: Option<String>,
}

/// The effect of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum PatchOp {
    /// `add` and `replace`: sets the member at the path.
    Set,
    /// `remove`: removes the member at the path.
    Remove,
}

/// The most operations of a patch.
const MAX_OPERATIONS: usize = 10_000;
/// The words for an operation that AWS knows.
const OPS: [&str; 6] = ["add", "remove", "move", "test", "replace", "copy"];

impl Patch {
    /// The operations in their order.
    ///
    /// # Errors
    /// If there are too many for one request, or AWS knows none by such a word.
    pub(in crate::control) fn operations(&self) -> Result<&[PatchOperation], ControlError> {
        let count = self.patch_operations.len();
        if count > MAX_OPERATIONS {
            let why = format!(
                "patchOperations: {count} operations, and a request has at most {MAX_OPERATIONS}"
            );
            return Err(ControlError::BadRequest(why));
        }
        let places = self.patch_operations.iter().enumerate();
        let unknown = places.filter(|(_, operation)| !OPS.contains(&&*operation.op));
        let at = |place| format!("patchOperations.{}.member.op", place + 1);
        let unknown = unknown.map(|(place, operation)| (&*operation.op, at(place)));
        ControlError::none_of(&unknown.collect::<Vec<_>>(), &OPS)?;
        Ok(&self.patch_operations)
    }
}

impl PatchOperation {
    /// An operation that sets the member at `path`. A text is its own value, anything else its
    /// JSON.
    #[must_use]
    pub fn set(path: impl Into<String>, value: &impl Serialize) -> Self {
        let value = match json!(value) {
            Value::String(text) => text,
            value => value.to_string(),
        };
        Self { op: "replace".into(), path: Some(path.into()), value: Some(value), from: None }
    }

    /// An operation that removes the member at `path`.
    #[must_use]
    pub fn remove(path: &str) -> Self {
        Self { op: "remove".into(), path: Some(path.into()), value: None, from: None }
    }

    /// An operation that removes `value` from the list at `path`.
    #[must_use]
    pub fn remove_value(path: &str, value: String) -> Self {
        Self { value: Some(value), ..Self::remove(path) }
    }

    /// The effect, and the segments of the path with `~1` and `~0` resolved.
    pub(in crate::control) fn op_and_path(&self) -> Result<(PatchOp, Vec<String>), ControlError> {
        let op = match &*self.op {
            "add" | "replace" => PatchOp::Set,
            "remove" => PatchOp::Remove,
            other => return Err(self.error(&format!("the operation {other} is not supported"))),
        };
        if self.from.as_deref().is_some_and(|from| !from.is_empty()) {
            return Err(self.error("`from` is for the operation copy"));
        }
        let path = self.path.as_deref().unwrap_or_default();
        let path = path.strip_prefix('/').ok_or_else(|| self.error("a path begins with /"))?;
        Ok((op, path.split('/').map(unescape_pointer).collect()))
    }

    /// True if it adds.
    pub(in crate::control) fn is_add(&self) -> bool {
        self.op == "add"
    }

    /// The member and the name of its entry, if the path is that of an entry.
    pub(in crate::control) fn entry(&self) -> Option<(String, String)> {
        let path = self.path.as_deref()?.strip_prefix('/')?;
        let (member, entry) = path.split_once('/')?;
        Some((unescape_pointer(member), unescape_pointer(entry)))
    }

    /// The path that a `copy` copies, and the path that it sets; `None` for other operations.
    pub(in crate::control) fn copied_paths(&self) -> Option<(&str, &str)> {
        let is_copy = self.op == "copy";
        is_copy.then(|| {
            (self.from.as_deref().unwrap_or_default(), self.path.as_deref().unwrap_or_default())
        })
    }

    /// The value as one of a few words; `words` names them for the error.
    pub(in crate::control) fn parse_word<T: DeserializeOwned>(
        &self,
        words: &str,
    ) -> Result<T, ControlError> {
        let value = Value::from(self.value()?);
        serde_json::from_value(value).map_err(|_| self.error(&format!("it is one of {words}")))
    }

    /// The value, if there is one.
    pub(in crate::control) fn text(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The value, which is required.
    pub(in crate::control) fn value(&self) -> Result<&str, ControlError> {
        self.value.as_deref().ok_or_else(|| self.error("it needs a value"))
    }

    /// The value as another type, such as a number.
    pub(in crate::control) fn parse_value<T: std::str::FromStr>(&self) -> Result<T, ControlError> {
        let value = self.value()?;
        value.trim().parse().map_err(|_| self.error(&format!("`{value}` is no value for it")))
    }

    /// The value as a JSON array.
    pub(in crate::control) fn parse_list(&self) -> Result<Vec<Value>, ControlError> {
        serde_json::from_str(self.value()?).map_err(|_| self.error("write a JSON array"))
    }

    /// The error that the resource has no such path, in AWS' words.
    pub(in crate::control) fn unknown_path(&self) -> ControlError {
        let path = self.path.as_deref().unwrap_or_default();
        ControlError::BadRequest(format!(
            "Invalid patch path  '{path}' specified for op '{}'. Please choose supported operations",
            self.op
        ))
    }

    /// The error that the path is none of a few, in AWS' words.
    pub(in crate::control) fn none_of_paths(&self, paths: &str) -> ControlError {
        let path = self.path.as_deref().unwrap_or_default();
        ControlError::BadRequest(format!(
            "Invalid patch path  '{path}' specified for op '{}'. Must be one of: [{paths}]",
            self.op
        ))
    }

    /// The error that the path names no single member, in AWS' words.
    pub(in crate::control) fn bad_path(&self, why: &str) -> ControlError {
        let path = self.path.as_deref().unwrap_or_default();
        ControlError::BadRequest(format!("Invalid patch path {path}: {why}"))
    }

    /// An error that names the operation.
    pub(in crate::control) fn error(&self, why: &str) -> ControlError {
        let path = self.path.as_deref().unwrap_or_default();
        ControlError::BadRequest(format!("Invalid patch: {} {path}: {why}", self.op))
    }
}

/// A segment of a path with its slashes escaped.
#[must_use]
pub fn escape_pointer(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

pub(in crate::control) fn unescape_pointer(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}
