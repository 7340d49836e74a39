//! The request that creates an API key, member by member.
//!
//! It is not the form in which a key is stored: a request with an unknown member is refused, and an
//! error names the member.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ControlError;
use super::key_record::{KeyAttributes, validate_key_value};
use super::overrides::OverridesSpec;
use crate::digest::{decode_hex, encode_hex};

/// A request to create a key.
///
/// It has no `Debug`: the value is in clear text.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "CreateKeyBody")]
pub struct CreateKey {
    /// The secret value; random if absent.
    pub value: Option<String>,
    /// Beyond AWS: the SHA-256 of the value in lower-case hexadecimal digits, instead of the value.
    #[serde(rename = "valueSha256", skip_serializing_if = "Option::is_none")]
    pub(in crate::control) value_sha256: Option<String>,
    #[serde(flatten)]
    pub(in crate::control) attributes: KeyAttributes,
}

/// The body of the request.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CreateKeyBody {
    value: Option<String>,
    value_sha256: Option<String>,
    generate_distinct_id: Option<bool>,
    stage_keys: Vec<Value>,
    name: Option<String>,
    description: Option<String>,
    enabled: bool,
    customer_id: Option<String>,
    tags: BTreeMap<String, String>,
    expires_at: Option<String>,
    overrides: OverridesSpec,
    policies: BTreeMap<String, String>,
}

impl TryFrom<CreateKeyBody> for CreateKey {
    type Error = &'static str;

    fn try_from(body: CreateKeyBody) -> Result<Self, Self::Error> {
        if !body.stage_keys.is_empty() {
            return Err("stageKeys: put the key on a usage plan of the stage instead");
        }
        if body.generate_distinct_id == Some(false) {
            return Err("generateDistinctId: the id of a key is never its value");
        }
        let has_value = body.value.as_ref().is_some_and(|value| !value.is_empty());
        if has_value && body.value_sha256.is_some() {
            return Err("valueSha256: it takes the place of `value`; send one of them");
        }
        let why = "valueSha256: write the 64 hexadecimal digits of the value's SHA-256";
        let digest = body.value_sha256.map(|digits| decode_hex(&digits).ok_or(why)).transpose()?;
        let value_sha256 = digest.map(|digest| encode_hex(&digest));
        let attributes = KeyAttributes {
            name: body.name,
            description: body.description,
            enabled: body.enabled,
            customer_id: body.customer_id,
            tags: body.tags,
            expires_at: body.expires_at,
            overrides: body.overrides,
            policies: body.policies,
        };
        Ok(Self { value: body.value, value_sha256, attributes })
    }
}

impl CreateKey {
    /// A request for a key with this value.
    pub(in crate::control) fn new(value: String, attributes: KeyAttributes) -> Self {
        Self { value: Some(value), value_sha256: None, attributes }
    }

    /// Checks that a key can be created by this request.
    ///
    /// # Errors
    /// If a member is invalid.
    pub(in crate::control) fn validate(&self) -> Result<(), ControlError> {
        self.value.as_deref().map_or(Ok(()), validate_key_value)?;
        self.attributes.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn an_error_names_the_member_that_is_unknown_or_of_another_type() {
        let cases = [
            (r#"{"colour": "red"}"#,               "`colour` is not known here"),
            (r#"{"name": 7}"#,                     "name: expected text"),
            (r#"{"enabled": "yes"}"#,              "enabled: expected true or false"),
            (r#"{"customerId": {}}"#,              "customerId: expected text"),
            (r#"{"tags": {"a": 1}}"#,              "tags.a: expected text"),
            (r#"{"policies": {"team": 1}}"#,       "policies.team: expected text"),
            (r#"{"overrides": {"p": {"quota": 1}}}"#, "overrides.p.quota: expected an object"),
            (r#"{"valueSha256": "ab"}"#,           "valueSha256: write the 64"),
            (r#"{"value": "x", "valueSha256": "ab"}"#, "valueSha256: it takes the place of `value`"),
            (r#"{"stageKeys": [{}]}"#,             "stageKeys: put the key on a usage plan"),
            (r#"{"generateDistinctId": false}"#,   "generateDistinctId: the id of a key"),
        ];
        for (body, expected) in cases {
            let body: Value = serde_json::from_str(body).unwrap();
            let error = crate::syntax::from_json::<CreateKey>(&body).err().unwrap();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
