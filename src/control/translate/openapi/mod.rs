//! OpenAPI documents of an API, from and to its definition: Swagger 2.0 and OpenAPI 3.0 with AWS'
//! extensions.
//!
//! A document is a value here: JSON and YAML are read and written by the admin API. What Tollgate
//! does not have is left out: authorizers are an error, since they decide who may call a method;
//! gateway responses and validators are a warning; schemas and texts for people are neither.

mod reading;
mod operations;
mod integrations;
mod writing;
#[cfg(test)]
mod round_trip;

use serde_json::{Map, Value};

use crate::control::model::ControlError;
pub use reading::definition_from_document;
pub use writing::{Extensions, document_from_definition};

/// The name of an operation for all HTTP methods that a path does not list.
const ANY_METHOD: &str = "x-amazon-apigateway-any-method";
/// The operation's member with the backend.
const INTEGRATION: &str = "x-amazon-apigateway-integration";
/// The header in which clients send their API key.
const KEY_HEADER: &str = "x-api-key";

/// The version of a document's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0, `swagger` in AWS' exports.
    Swagger,
    /// `OpenAPI` 3.0, `oas30` in AWS' exports.
    OpenApi,
}

/// The API's members that are members of a document of this name.
const API_EXTENSIONS: [(&str, &str); 5] = [
    ("x-amazon-apigateway-api-key-source", "apiKeySource"),
    ("x-amazon-apigateway-binary-media-types", "binaryMediaTypes"),
    ("x-amazon-apigateway-minimum-compression-size", "minimumCompressionSize"),
    ("x-amazon-apigateway-security-policy", "securityPolicy"),
    ("x-amazon-apigateway-endpoint-access-mode", "endpointAccessMode"),
];

/// An error at a place in a document.
fn invalid(at: &str, why: impl std::fmt::Display) -> ControlError {
    ControlError::BadRequest(format!("Invalid OpenAPI document: {at}: {why}"))
}

/// An error in members that a place in a document gives.
fn invalid_members(at: &str, error: &ControlError) -> ControlError {
    let why = error.to_string();
    invalid(at, why.trim_start_matches("Invalid request body: "))
}

/// An object at a place in a document; an empty one if it is absent.
fn object_at<'d>(
    value: &'d Value,
    at: &str,
) -> Result<Option<&'d Map<String, Value>>, ControlError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err(invalid(at, "expected an object")),
    }
}

/// A list at a place in a document; an empty one if it is absent.
fn list_at<'d>(value: &'d Value, at: &str) -> Result<&'d [Value], ControlError> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(invalid(at, "expected a list")),
    }
}

/// A text at a place in a document. YAML writes some as numbers: `version: 1.0`.
fn text_at(value: &Value, at: &str) -> Result<Option<String>, ControlError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(invalid(at, "expected text")),
    }
}

/// `true` or `false` at a place in a document.
fn flag_at(value: &Value, at: &str) -> Result<Option<bool>, ControlError> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        _ => Err(invalid(at, "expected true or false")),
    }
}
