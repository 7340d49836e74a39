//! API keys in AWS' members, as the registry holds them and as requests create and patch them.
//!
//! A record has the digest of the key's value. It has the value itself only under encryption, and
//! only if an encryption key is configured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::digest_entry::DigestEntry;
use super::error::ControlError;
use super::ids::{new_id, now_secs, random_alphanumeric};
use super::overrides::OverridesSpec;
use super::patch::{Patch, PatchOp, PatchOperation};
use crate::catalog;
use crate::digest::{digest_secret, encode_hex};
use crate::time::Micros;

/// The shortest value in bytes, as in AWS: a shorter one could be guessed.
const MIN_VALUE_BYTES: usize = 20;
/// The largest size of a key's entry in the registry, in bytes: a page has hundreds of them.
const MAX_ENTRY_BYTES: usize = 128 << 10;
/// The longest value in bytes: `/check` accepts no longer one.
const MAX_VALUE_BYTES: usize = 1024;

/// An API key as the registry holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// Ten random letters and digits, or the value of the tag `_custom_id_`.
    pub id: String,
    created_date: u64,
    last_updated_date: u64,
    /// The SHA-256 of its value, in hexadecimal digits.
    pub(in crate::control) sha256: String,
    /// The value before the last rotation, if it is accepted for an overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retiring: Option<RetiringValue>,
    /// The encrypted value; absent if no encryption key was configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) sealed: Option<String>,
    /// The ids of its usage plans.
    #[serde(default)]
    pub(in crate::control) plans: Vec<String>,
    /// True if the catalog file declares it: the admin API only shows it.
    #[serde(skip)]
    from_file: bool,
    #[serde(flatten)]
    pub(in crate::control) attributes: KeyAttributes,
}

/// A value that a rotation has replaced, and that is still accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetiringValue {
    /// Its SHA-256, in hexadecimal digits.
    sha256: String,
    /// The end of the overlap, in seconds since 1970.
    until: u64,
}

/// The members of a key that a request sets, besides its value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAttributes {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) description: Option<String>,
    #[serde(default)]
    pub(in crate::control) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) customer_id: Option<String>,
    /// Names for people, and `_custom_id_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::control) tags: BTreeMap<String, String>,
    /// Beyond AWS: the time after which the key is refused, as RFC 3339 writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::control) expires_at: Option<String>,
    /// Beyond AWS: the key's own sizes of its plans' limits.
    #[serde(default, skip_serializing_if = "OverridesSpec::is_empty")]
    pub(in crate::control) overrides: OverridesSpec,
    /// Beyond AWS: the policies that are judged with every check of the key, each with the key that
    /// it counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::control) policies: BTreeMap<String, String>,
}

/// The value of a new key: the requested one, or a random one.
///
/// # Errors
/// If the requested value is too short or too long, or has control characters.
pub(in crate::control) fn new_key_value(requested: Option<String>) -> Result<String, ControlError> {
    let requested = requested.filter(|value| !value.is_empty());
    let value = requested.unwrap_or_else(|| random_alphanumeric(40));
    validate_key_value(&value)?;
    Ok(value)
}

pub(super) fn validate_key_value(value: &str) -> Result<(), ControlError> {
    if value.len() < MIN_VALUE_BYTES {
        return Err(ControlError::BadRequest(
            "API Key value should be at least 20 characters".into(),
        ));
    }
    if value.len() > MAX_VALUE_BYTES || value.chars().any(char::is_control) {
        let why = "API Key value should have at most 1024 bytes and no control characters";
        return Err(ControlError::BadRequest(why.into()));
    }
    Ok(())
}

impl KeyRecord {
    /// A new key with the requested value or a random one, and that value.
    ///
    /// # Errors
    /// If the value or another member is invalid.
    pub fn new(
        requested: Option<String>,
        attributes: KeyAttributes,
    ) -> Result<(Self, String), ControlError> {
        let value = new_key_value(requested)?;
        let sha256 = encode_hex(&digest_secret(&value));
        Ok((Self::with_digest(sha256, attributes)?, value))
    }

    /// A new key whose value has this SHA-256, in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// If a member is invalid.
    pub(in crate::control) fn with_digest(
        sha256: String,
        attributes: KeyAttributes,
    ) -> Result<Self, ControlError> {
        attributes.validate()?;
        let now = now_secs();
        let id = new_id(&attributes.tags)?;
        Ok(Self {
            id,
            created_date: now,
            last_updated_date: now,
            sha256,
            retiring: None,
            sealed: None,
            plans: Vec::new(),
            from_file: false,
            attributes,
        })
    }

    /// A key of the catalog file, for responses only: its values are not kept. `changed` is the time
    /// at which the file was changed, in seconds since 1970.
    pub(in crate::control) fn from_file(
        id: &str,
        plans: Vec<String>,
        attributes: KeyAttributes,
        changed: u64,
    ) -> Self {
        Self {
            id: id.to_owned(),
            created_date: changed,
            last_updated_date: changed,
            sha256: String::new(),
            retiring: None,
            sealed: None,
            plans,
            from_file: true,
            attributes,
        }
    }

    /// Reads an entry of the registry.
    ///
    /// # Errors
    /// If it is no key of this version.
    pub(in crate::control) fn parse(text: &str) -> Result<Self, ControlError> {
        serde_json::from_str(text).map_err(|error| ControlError::Corrupt(error.to_string()))
    }

    /// The text of its entry in the registry.
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub(in crate::control) fn to_entry(&self) -> Result<String, ControlError> {
        let entry = serde_json::to_string(self);
        let entry = entry.map_err(|error| ControlError::BadRequest(error.to_string()))?;
        if entry.len() > MAX_ENTRY_BYTES {
            let why = format!(
                "the API key has {} bytes in all, and at most {MAX_ENTRY_BYTES} are allowed; shorten its description or its tags",
                entry.len()
            );
            return Err(ControlError::BadRequest(why));
        }
        Ok(entry)
    }

    /// The digests of the values that are accepted, each with its entry in the registry.
    pub(in crate::control) fn digest_entries(
        &self,
    ) -> impl Iterator<Item = (&str, DigestEntry<'_>)> {
        let entry = |until| DigestEntry { id: &self.id, until };
        let retiring = self.retiring.as_ref();
        let retiring = retiring.map(move |old| (&*old.sha256, entry(Some(old.until))));
        std::iter::once((&*self.sha256, entry(None))).chain(retiring)
    }

    /// Gives it a new value. The old one is accepted for the overlap.
    pub(in crate::control) fn replace_value(&mut self, value: &str, overlap_secs: u64) {
        let sha256 = std::mem::replace(&mut self.sha256, encode_hex(&digest_secret(value)));
        let until = now_secs() + overlap_secs;
        self.retiring = (overlap_secs > 0).then_some(RetiringValue { sha256, until });
        self.touch();
    }

    /// The key in AWS' responses, without its value and the digest.
    #[must_use]
    pub fn to_aws_json(&self) -> Value {
        let mut shown = json!(self);
        if let Some(shown) = shown.as_object_mut() {
            shown.remove("sha256");
            shown.remove("sealed");
            shown.remove("retiring");
            if let Some(retiring) = &self.retiring {
                let end = i64::try_from(retiring.until).ok();
                let end = end.and_then(|end| jiff::Timestamp::from_second(end).ok());
                shown.insert("previousValueUntil".into(), end.map(|end| end.to_string()).into());
            }
            shown.remove("plans");
            if self.from_file {
                shown.insert("owner".into(), "file".into());
            }
            shown.insert("stageKeys".into(), json!([]));
        }
        shown
    }

    /// True if the catalog file declares it.
    #[must_use]
    pub fn is_from_file(&self) -> bool {
        self.from_file
    }

    /// The SHA-256 of its value, in hexadecimal digits; `None` for a key of the catalog file.
    #[must_use]
    pub fn value_sha256(&self) -> Option<&str> {
        (!self.from_file).then_some(&*self.sha256)
    }

    /// True if it is on this plan.
    #[must_use]
    pub fn is_on(&self, plan: &str) -> bool {
        self.plans.iter().any(|other| other == plan)
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.attributes.name.as_deref()
    }

    /// The operator's own id of the customer that holds it.
    #[must_use]
    pub fn customer_id(&self) -> Option<&str> {
        self.attributes.customer_id.as_deref()
    }

    /// Its tags.
    pub fn tags(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.attributes.tags
    }

    fn touch(&mut self) {
        self.last_updated_date = now_secs();
    }

    /// Takes the attributes of an imported line.
    pub(in crate::control) fn update_from_import(&mut self, imported: &KeyAttributes) {
        self.attributes.name.clone_from(&imported.name);
        self.attributes.description.clone_from(&imported.description);
        self.attributes.enabled = imported.enabled;
        self.touch();
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them, or the result, is invalid.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch.operations()?.iter().try_for_each(|operation| self.apply(operation))?;
        self.touch();
        self.attributes.validate()
    }

    fn apply(&mut self, operation: &PatchOperation) -> Result<(), ControlError> {
        let attributes = &mut self.attributes;
        let (op, path) = operation.op_and_path()?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let ["overrides", path @ ..] = &path[..] {
            return attributes.overrides.patch(op, path, operation);
        }
        if let ["policies", policy] = path[..] {
            match op {
                PatchOp::Set => {
                    attributes.policies.insert(policy.into(), operation.value()?.into())
                }
                PatchOp::Remove => attributes.policies.remove(policy),
            };
            return Ok(());
        }
        match (op, &*path.join("/")) {
            (PatchOp::Set, "name") => attributes.name = Some(operation.value()?.into()),
            (PatchOp::Set, "description") => {
                attributes.description = Some(operation.value()?.into());
            }
            (PatchOp::Set, "enabled") => attributes.enabled = operation.parse_value()?,
            (PatchOp::Set, "customerId") => {
                attributes.customer_id = Some(operation.value()?.into());
            }
            (PatchOp::Set, "expiresAt") => attributes.expires_at = Some(operation.value()?.into()),
            (PatchOp::Remove, "expiresAt") => attributes.expires_at = None,
            (PatchOp::Set, "policies") => {
                let policies = serde_json::from_str(operation.value()?);
                attributes.policies =
                    policies.map_err(|_| operation.error("write a JSON object of texts"))?;
            }
            (PatchOp::Remove, "policies") => attributes.policies.clear(),
            _ => return Err(operation.unknown_path()),
        }
        Ok(())
    }
}

impl KeyAttributes {
    pub(super) fn validate(&self) -> Result<(), ControlError> {
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > 1024);
        if long(&self.name) || long(&self.description) {
            return Err(ControlError::BadRequest(
                "a name or description has at most 1024 bytes".into(),
            ));
        }
        let customer = self.customer_id.as_deref().unwrap_or_default();
        if customer.len() > 256 || customer.chars().any(char::is_control) {
            let why = "a customerId has at most 256 bytes and no control characters";
            return Err(ControlError::BadRequest(why.into()));
        }
        let end: Option<Option<Micros>> = self.expires_at.as_deref().map(catalog::parse_rfc3339);
        if end == Some(None) {
            let why = "write expiresAt with its zone, such as 2027-01-31T00:00:00Z";
            return Err(ControlError::BadRequest(why.into()));
        }
        Ok(())
    }
}
