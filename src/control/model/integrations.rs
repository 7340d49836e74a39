//! Integrations: the backends of methods, which Tollgate keeps and does not call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ControlError;
use super::member_patch::patch_all;
use super::member_types::{MemberType, MemberTypes, Members, check_members};
use super::patch::Patch;
use super::status_responses::StatusResponse;

/// The conversion of bodies; none unless given.
pub(super) const CONTENT_HANDLING: MemberType =
    MemberType::OptionalOneOf(&["CONVERT_TO_BINARY", "CONVERT_TO_TEXT"]);

const INTEGRATION: MemberTypes = &[
    ("type", MemberType::OneOf(&["HTTP", "AWS", "MOCK", "HTTP_PROXY", "AWS_PROXY"])),
    ("httpMethod", MemberType::Text),
    ("uri", MemberType::Text),
    ("connectionType", MemberType::OneOf(&["INTERNET", "VPC_LINK"])),
    ("connectionId", MemberType::Text),
    ("credentials", MemberType::Text),
    ("requestParameters", MemberType::TextMap),
    ("requestTemplates", MemberType::TextMap),
    ("passthroughBehavior", MemberType::OneOf(&["WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER"])),
    ("contentHandling", CONTENT_HANDLING),
    // The most that AWS grants on request.
    ("timeoutInMillis", MemberType::Whole(50, 300_000)),
    ("cacheNamespace", MemberType::Text),
    ("cacheKeyParameters", MemberType::TextSet),
    ("tlsConfig", MemberType::Object(&[("insecureSkipVerification", MemberType::Flag)])),
    ("responseTransferMode", MemberType::OneOf(&["BUFFERED", "STREAM"])),
    ("integrationTarget", MemberType::Text),
];

/// The backend of a method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Integration {
    /// The responses that the backend's become, by status code.
    #[serde(default, rename = "integrationResponses", skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::control) responses: BTreeMap<String, StatusResponse>,
    #[serde(flatten)]
    members: Members,
}

impl Integration {
    /// An integration with the members that a request gives.
    ///
    /// # Errors
    /// If a member is unknown, missing or of another type, or the URI does not fit the type, as in
    /// AWS.
    pub fn new(mut members: Members) -> Result<Self, ControlError> {
        check_members(&mut members, INTEGRATION, "putIntegrationInput")?;
        check_backend(&members).map_err(|why| ControlError::BadRequest(why.into()))?;
        Ok(Self { responses: BTreeMap::new(), members })
    }

    /// The integration in AWS' responses, with AWS' defaults; `resource` is the id of its resource.
    #[must_use]
    pub fn to_aws_json(&self, resource: &str) -> Value {
        let mut shown = json!(self);
        let is_http = matches!(self.members.get("type"), Some(kind) if kind == "HTTP" || kind == "HTTP_PROXY");
        let defaults = [
            ("passthroughBehavior", json!("WHEN_NO_MATCH")),
            ("timeoutInMillis", json!(29_000)),
            ("cacheNamespace", json!(resource)),
            ("cacheKeyParameters", json!([])),
        ];
        let connection = is_http.then(|| ("connectionType", json!("INTERNET")));
        for (name, default) in defaults.into_iter().chain(connection) {
            if shown[name].is_null() {
                shown[name] = default;
            }
        }
        shown
    }

    /// Applies all operations in their order.
    ///
    /// # Errors
    /// If one of them is invalid. The integration may then be changed in part.
    pub fn patch(&mut self, patch: &Patch) -> Result<(), ControlError> {
        patch_all(&mut self.members, INTEGRATION, patch)
    }
}

/// Checks the members that AWS requires of a type of integration, in AWS' words, so that a program
/// which works here works there as well.
fn check_backend(members: &Members) -> Result<(), &'static str> {
    let text = |name| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let uri = text("uri");
    let has_variable = uri.contains("${stageVariables.");
    match text("type") {
        "" => Err("an integration needs a type, such as HTTP_PROXY"),
        "MOCK" => Ok(()),
        _ if text("httpMethod").is_empty() => {
            Err("Enumeration value for HttpMethod must be non-empty")
        }
        "HTTP" | "HTTP_PROXY" => {
            let is_url = ["http://", "https://"].iter().any(|scheme| uri.starts_with(scheme));
            let is_endpoint = is_url || has_variable;
            is_endpoint.then_some(()).ok_or("Invalid HTTP endpoint specified for URI")
        }
        _ if has_variable => Ok(()),
        kind => check_arn(kind, uri, text("credentials")),
    }
}

/// Checks the ARN of an integration with a service of AWS: `arn:aws:apigateway:REGION:SERVICE:path`
/// or `:action`, and the rest.
fn check_arn(kind: &str, arn: &str, role: &str) -> Result<(), &'static str> {
    let mut parts = arn.splitn(6, ':');
    if parts.next() != Some("arn") {
        return Err("Invalid ARN specified in the request");
    }
    let service = parts.nth(3).unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let is_function = service == "lambda";
    if !["path/", "action/"].iter().any(|prefix| target.starts_with(prefix)) {
        return Err("AWS ARN for integration must contain path or action");
    }
    match kind {
        "AWS_PROXY" if !is_function && service != "firehose" => Err(
            "Integrations of type 'AWS_PROXY' currently only supports Lambda function and Firehose stream invocations.",
        ),
        "AWS" if !is_function && role.is_empty() => {
            Err("Role ARN must be specified for AWS integrations")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn an_integration_has_the_method_and_the_uri_that_its_type_needs_in_aws() {
        for (members, expected) in [
            (json!({}),                                                       "needs a type"),
            (json!({"type": "MOCK"}),                                         ""),
            (json!({"type": "HTTP", "uri": "http://a"}),                      "Enumeration value for HttpMethod"),
            (json!({"type": "AWS_PROXY", "uri": "arn:aws:apigateway:a"}),     "Enumeration value for HttpMethod"),
            (json!({"type": "HTTP_PROXY", "httpMethod": "GET"}),              "Invalid HTTP endpoint"),
            (json!({"type": "HTTP", "httpMethod": "GET", "uri": "arn:aws"}),  "Invalid HTTP endpoint"),
            (json!({"type": "HTTP", "httpMethod": "GET", "uri": "https://a"}), ""),
            (json!({"type": "HTTP", "httpMethod": "GET", "uri": "${stageVariables.url}/a"}), ""),
            (json!({"type": "AWS", "httpMethod": "POST", "uri": "http://a"}), "Invalid ARN"),
            (json!({"type": "AWS", "httpMethod": "POST", "uri": "arn:aws:apigateway:a"}), "must contain path or action"),
            (json!({"type": "AWS", "httpMethod": "POST", "uri": "arn:aws:apigateway:a:s3:path/b/k"}), "Role ARN must be specified"),
            (json!({"type": "AWS", "httpMethod": "POST", "uri": "arn:aws:apigateway:a:s3:path/b/k", "credentials": "arn:aws:iam::1:role/a"}), ""),
            (json!({"type": "AWS", "httpMethod": "POST", "uri": "arn:aws:apigateway:a:lambda:path/2015-03-31/functions/b/invocations"}), ""),
            (json!({"type": "AWS_PROXY", "httpMethod": "POST", "uri": "arn:aws:apigateway:a:lambda:path/2015-03-31/functions/b/invocations"}), ""),
            (json!({"type": "AWS_PROXY", "httpMethod": "POST", "uri": "arn:aws:apigateway:a:s3:path/b/k", "credentials": "arn:aws:iam::1:role/a"}), "only supports Lambda"),
        ] {
            let made = Integration::new(members.as_object().cloned().unwrap());
            let why = made.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(why.contains(expected) && why.is_empty() == expected.is_empty(), "{members}: {why}");
        }
    }
}
