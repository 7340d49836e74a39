//! The document of an API's definition, as AWS exports it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::integrations::write_integration;
use super::{ANY_METHOD, API_EXTENSIONS, Dialect, INTEGRATION, KEY_HEADER};
use crate::control::model::{ApiDefinition, Method};

/// AWS' extensions that a document has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions {
    /// The backends of methods.
    pub integrations: bool,
    /// The members of the API.
    pub api: bool,
}

/// The parts of a document that its operations refer to.
#[derive(Default)]
struct Referred {
    /// Security schemes by their names.
    schemes: Map<String, Value>,
    models: BTreeSet<String>,
}

/// The document of a definition, for the stage with this name.
#[must_use]
pub fn document_from_definition(
    definition: &ApiDefinition,
    dialect: Dialect,
    extensions: Extensions,
    stage: &str,
) -> Value {
    let members = &definition.members;
    let mut info = Map::from_iter([("title".to_owned(), json!(definition.name))]);
    let texts = ["description", "version"].into_iter();
    info.extend(texts.filter_map(|it| Some((it.to_owned(), members.get(it)?.clone()))));
    let mut referred = Referred::default();
    let paths = definition.paths.iter().map(|(path, methods)| {
        let operations = methods.iter().map(|(name, method)| {
            let name = if name == "ANY" { ANY_METHOD.into() } else { name.to_ascii_lowercase() };
            (name, operation(method, dialect, extensions, &mut referred))
        });
        (path.clone(), Value::Object(operations.collect()))
    });
    let paths: Map<String, Value> = paths.collect();
    let schema = |name: &String| (name.clone(), json!({ "type": "object", "title": name }));
    let schemas: Map<String, Value> = referred.models.iter().map(schema).collect();
    let mut document = match dialect {
        Dialect::Swagger => json!({
            "swagger": "2.0", "info": info, "basePath": format!("/{stage}"), "schemes": ["https"],
            "paths": paths, "securityDefinitions": referred.schemes, "definitions": schemas,
        }),
        Dialect::OpenApi => json!({
            "openapi": "3.0.1", "info": info, "servers": [{ "url": format!("/{stage}") }], "paths": paths,
            "components": { "securitySchemes": referred.schemes, "schemas": schemas },
        }),
    };
    if extensions.api {
        for (extension, member) in API_EXTENSIONS {
            if let Some(value) = members.get(member) {
                document[extension] = value.clone();
            }
        }
        write_endpoint_and_policy(&mut document, members);
    }
    document
}

fn write_endpoint_and_policy(document: &mut Value, members: &Map<String, Value>) {
    let disabled = members.get("disableExecuteApiEndpoint").cloned().unwrap_or(false.into());
    let mut endpoint = json!({ "disableExecuteApiEndpoint": disabled });
    let ids = members.get("endpointConfiguration").and_then(|it| it.get("vpcEndpointIds"));
    if let Some(ids) = ids {
        endpoint["vpcEndpointIds"] = ids.clone();
    }
    document["x-amazon-apigateway-endpoint-configuration"] = endpoint;
    let policy = members.get("policy").and_then(Value::as_str);
    if let Some(policy) = policy.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        document["x-amazon-apigateway-policy"] = policy;
    }
}

fn operation(
    method: &Method,
    dialect: Dialect,
    extensions: Extensions,
    referred: &mut Referred,
) -> Value {
    let method = json!(method);
    let mut written = json!({ "responses": {} });
    if let Some(name) = method["operationName"].as_str() {
        written["operationId"] = name.into();
    }
    let mut parameters: Vec<Value> = members(&method["requestParameters"])
        .filter_map(|(name, required)| parameter(name, required, dialect))
        .collect();
    let models = &method["requestModels"];
    match dialect {
        Dialect::OpenApi => {
            if let Some(content) = content(models, referred) {
                written["requestBody"] = json!({ "content": content });
            }
        }
        Dialect::Swagger => {
            if let Some((schema, types)) = swagger_schema(models, referred) {
                parameters.push(
                    json!({ "name": "body", "in": "body", "required": true, "schema": schema }),
                );
                written["consumes"] = types;
            }
        }
    }
    if !parameters.is_empty() {
        written["parameters"] = parameters.into();
    }
    for (code, response) in members(&method["methodResponses"]) {
        let (response, types) = self::response(code, response, dialect, referred);
        if let Some(types) = types {
            written["produces"] = types;
        }
        written["responses"][code] = response;
    }
    let security = security(&method, referred);
    if !security.is_empty() {
        written["security"] = security.into();
    }
    if extensions.integrations && !method["methodIntegration"].is_null() {
        written[INTEGRATION] = write_integration(&method["methodIntegration"]);
    }
    written
}

/// The requirements of a method, whose schemes become part of the document.
fn security(method: &Value, referred: &mut Referred) -> Vec<Value> {
    let mut security = Vec::new();
    let mut require = |name: &str, header: &str, authtype: Option<&str>| {
        let mut scheme = json!({ "type": "apiKey", "name": header, "in": "header" });
        if let Some(authtype) = authtype {
            scheme["x-amazon-apigateway-authtype"] = authtype.into();
        }
        referred.schemes.insert(name.into(), scheme);
        security.push(json!({ name: [] }));
    };
    if method["apiKeyRequired"] == true {
        require("api_key", KEY_HEADER, None);
    }
    if method["authorizationType"] == "AWS_IAM" {
        require("sigv4", "Authorization", Some("awsSigv4"));
    }
    security
}

/// A parameter of AWS, such as `method.request.header.X-Model`.
fn parameter(name: &str, required: &Value, dialect: Dialect) -> Option<Value> {
    let (place, name) = name.strip_prefix("method.request.")?.split_once('.')?;
    let place = if place == "querystring" { "query" } else { place };
    let mut parameter = json!({ "name": name, "in": place, "required": required });
    match dialect {
        Dialect::Swagger => parameter["type"] = "string".into(),
        Dialect::OpenApi => parameter["schema"] = json!({ "type": "string" }),
    }
    Some(parameter)
}

/// A response of a method; in Swagger with the media types that it produces.
fn response(
    code: &str,
    response: &Value,
    dialect: Dialect,
    referred: &mut Referred,
) -> (Value, Option<Value>) {
    let mut written = json!({ "description": format!("{code} response") });
    let header = match dialect {
        Dialect::Swagger => json!({ "type": "string" }),
        Dialect::OpenApi => json!({ "schema": { "type": "string" } }),
    };
    let headers = members(&response["responseParameters"]);
    let headers = headers.filter_map(|(name, _)| name.strip_prefix("method.response.header."));
    let headers: Map<String, Value> = headers.map(|it| (it.into(), header.clone())).collect();
    if !headers.is_empty() {
        written["headers"] = headers.into();
    }
    let models = &response["responseModels"];
    let mut types = None;
    match dialect {
        Dialect::OpenApi => {
            if let Some(content) = content(models, referred) {
                written["content"] = content;
            }
        }
        Dialect::Swagger => {
            if let Some((schema, produced)) = swagger_schema(models, referred) {
                (written["schema"], types) = (schema, Some(produced));
            }
        }
    }
    (written, types)
}

/// The models of a body by its media types, if it has any.
fn content(models: &Value, referred: &mut Referred) -> Option<Value> {
    let mut content = Map::new();
    for (media, model) in members(models) {
        let model = model.as_str().unwrap_or_default();
        referred.models.insert(model.to_owned());
        let schema = json!({ "$ref": format!("#/components/schemas/{model}") });
        content.insert(media.clone(), json!({ "schema": schema }));
    }
    (!content.is_empty()).then_some(content.into())
}

/// The schema of a body and its media types, if it has any: Swagger has one schema for all of them.
fn swagger_schema(models: &Value, referred: &mut Referred) -> Option<(Value, Value)> {
    let model = members(models).next()?.1.as_str()?;
    referred.models.insert(model.to_owned());
    let types: Vec<&String> = members(models).map(|(media, _)| media).collect();
    Some((json!({ "$ref": format!("#/definitions/{model}") }), json!(types)))
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}
