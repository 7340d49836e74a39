//! AWS' patch operations: an operation, a path of escaped segments, and a value that is text.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html>. Which paths a resource
//! has is the resource's to say; `copy`, `move` and `test` have none here.

use serde::Deserialize;

use super::error::ControlError;
use crate::object::object_list;

/// What to do to a resource, as sent.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// In their order.
    #[serde(default, deserialize_with = "object_list")]
    pub patch_operations: Vec<PatchOperation>,
}

/// One operation, as sent.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchOperation {
    op: String,
    path: Option<String>,
    value: Option<String>,
    /// Only `copy` and `move` have it; read so that clients may send it empty.
    #[serde(default, rename = "from")]
    _from: Option<String>,
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum PatchOp {
    /// `add` and `replace`: sets what is named.
    Set,
    /// `remove`: takes it away.
    Remove,
}

impl PatchOperation {
    /// What it does, and the segments of its path with `~1` and `~0` resolved.
    pub(in crate::control) fn op_and_path(&self) -> Result<(PatchOp, Vec<String>), ControlError> {
        let op = match &*self.op {
            "add" | "replace" => PatchOp::Set,
            "remove" => PatchOp::Remove,
            other => return Err(self.error(&format!("the operation {other} is not supported"))),
        };
        let path = self.path.as_deref().unwrap_or_default();
        let path = path.strip_prefix('/').ok_or_else(|| self.error("a path begins with /"))?;
        let unescape = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
        Ok((op, path.split('/').map(unescape).collect()))
    }

    /// Its value; required.
    pub(in crate::control) fn value(&self) -> Result<&str, ControlError> {
        self.value.as_deref().ok_or_else(|| self.error("it needs a value"))
    }

    /// Its value as another type, such as a number.
    pub(in crate::control) fn parse_value<T: std::str::FromStr>(&self) -> Result<T, ControlError> {
        let value = self.value()?;
        value.trim().parse().map_err(|_| self.error(&format!("`{value}` is no value for it")))
    }

    /// The error that it has no such path.
    pub(in crate::control) fn unknown_path(&self) -> ControlError {
        self.error("this resource has no such path for this operation")
    }

    /// An error that names the operation.
    pub(in crate::control) fn error(&self, why: &str) -> ControlError {
        let path = self.path.as_deref().unwrap_or_default();
        ControlError::BadRequest(format!("Invalid patch: {} {path}: {why}", self.op))
    }
}
