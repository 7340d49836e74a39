//! `OpenAPI` documents of APIs: the queries of imports, and `/restapis/{id}/stages/{name}/exports`.
//!
//! The control plane translates documents from and to APIs.

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::auth::RequestEditor;
use super::error::AdminError;
use super::payload::{AdminResult, parse_document};
use super::query::is_true;
use crate::control::translate::openapi::{
    Dialect, Extensions, definition_from_document, document_from_definition,
};
use crate::control::{ApiDefinition, RestApi};

/// The query of an import: `POST /restapis?mode=import`, or `PUT` of an API.
#[derive(Default, Deserialize)]
pub(super) struct ImportQuery {
    mode: Option<String>,
    failonwarnings: Option<String>,
    ignore: Option<String>,
    basepath: Option<String>,
    #[serde(rename = "endpointConfigurationTypes")]
    endpoint_types: Option<String>,
}

impl ImportQuery {
    /// True if an API is imported rather than created by its members.
    pub(super) fn is_import(&self) -> bool {
        self.mode.is_some()
    }

    /// Refuses parameters of imports.
    pub(super) fn refuse_without_import(&self) -> Result<(), AdminError> {
        let given = [&self.failonwarnings, &self.ignore, &self.basepath, &self.endpoint_types];
        if given.into_iter().any(Option::is_some) {
            let why = "failonwarnings, ignore, basepath and endpointConfigurationTypes are for mode=import";
            return Err(AdminError::bad_request(why));
        }
        Ok(())
    }

    /// True if the document replaces the API, rather than being merged with it.
    pub(super) fn overwrites(&self) -> Result<bool, AdminError> {
        match self.mode.as_deref() {
            None | Some("merge") => Ok(false),
            Some("overwrite") => Ok(true),
            Some(_) => Err(AdminError::bad_request(
                "Enumeration value of OpenAPI import mode must be \"overwrite\" or \"merge\"",
            )),
        }
    }

    /// The definition in a document, and warnings unless they are to fail the import.
    pub(super) fn read(&self, body: &[u8]) -> Result<(ApiDefinition, Vec<String>), AdminError> {
        let (mut definition, warnings) = definition_from_document(&parse_document(body)?)?;
        if is_true(self.failonwarnings.as_deref()) && !warnings.is_empty() {
            return Err(AdminError::bad_request(warnings.join("; ")));
        }
        if let Some(kind) = &self.endpoint_types {
            let members = &mut definition.members;
            let endpoint = members.entry("endpointConfiguration").or_insert(Map::new().into());
            if let Some(endpoint) = endpoint.as_object_mut() {
                endpoint.insert("types".into(), vec![kind.clone()].into());
            }
        }
        Ok((definition, warnings))
    }
}

/// An API in the response to an import.
pub(super) fn with_warnings(api: &RestApi, warnings: &[String]) -> Value {
    let mut shown = api.to_aws_json();
    if !warnings.is_empty() {
        shown["warnings"] = warnings.into();
    }
    shown
}

/// The query of an export.
#[derive(Default, Deserialize)]
pub(super) struct ExportQuery {
    extensions: Option<String>,
}

pub(super) async fn export(
    RequestEditor(editor): RequestEditor,
    Path((id, stage, kind)): Path<(String, String, String)>,
    Query(query): Query<ExportQuery>,
    headers: HeaderMap,
) -> AdminResult {
    let extensions = read_extensions(query.extensions.as_deref().unwrap_or_default())?;
    let definition = editor.apis().get(&id).await;
    let definition =
        definition.map_err(|error| error.below_api("stage"))?.stage_definition(&stage)?;
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_yaml = accepted.is_some_and(|accept| accept.contains("yaml"));
    let (dialect, file) = match (&*kind, is_yaml) {
        ("swagger", false) => (Dialect::Swagger, "attachment; filename=\"swagger.json\""),
        ("swagger", true) => (Dialect::Swagger, "attachment; filename=\"swagger.yaml\""),
        ("oas30", false) => (Dialect::OpenApi, "attachment; filename=\"oas30.json\""),
        ("oas30", true) => (Dialect::OpenApi, "attachment; filename=\"oas30.yaml\""),
        _ => {
            let kind: String = kind.chars().take(100).collect();
            return Err(AdminError::bad_request(format!("No API exporter for type '{kind}'")));
        }
    };
    let document = document_from_definition(&definition, dialect, extensions, &stage);
    let text = if is_yaml {
        serde_saphyr::to_string(&document).map_err(|error| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            AdminError::new(status, "InternalServerErrorException", error.to_string())
        })?
    } else {
        document.to_string()
    };
    // AWS sends a file.
    let head =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, file)];
    Ok((head, text).into_response())
}

/// The extensions that a query names: several are separated by commas.
fn read_extensions(names: &str) -> Result<Extensions, AdminError> {
    let mut extensions = Extensions::default();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "integrations" => extensions.integrations = true,
            "apigateway" => extensions = Extensions { integrations: true, api: true },
            // Both have nothing to add to a document.
            "authorizers" | "documentation" | "postman" => {}
            _ => {
                let why = "Invalid extensions: expected some of apigateway, integrations, authorizers, documentation, postman";
                return Err(AdminError::bad_request(why));
            }
        }
    }
    Ok(extensions)
}
