//! An operation of a document as a method: its parameters, models and responses.
//!
//! Schemas are not read: a model is known by its name alone.

use serde_json::{Map, Value};

use super::integrations::read_integration;
use super::reading::Reader;
use super::{Dialect, INTEGRATION, invalid, invalid_members, list_at, object_at, text_at};
use crate::control::model::{ControlError, Method, ResponseOwner, StatusResponse};

impl<'d> Reader<'d> {
    /// The method of an operation; `shared` are the parameters of its path.
    pub(super) fn operation(
        &mut self,
        name: &str,
        operation: &'d Value,
        shared: &'d Value,
        at: &str,
    ) -> Result<Method, ControlError> {
        let mut members = self.access(operation, at)?;
        if let Some(id) = text_at(&operation["operationId"], &format!("{at}.operationId"))? {
            members.insert("operationName".into(), id.into());
        }
        let (mut parameters, mut models) = (Map::new(), Map::new());
        for (list, of) in [(shared, "the path's"), (&operation["parameters"], "its own")] {
            let at = format!("{at}: {of} parameters");
            for (place, parameter) in list_at(list, &at)?.iter().enumerate() {
                let at = format!("{at}[{place}]");
                let parameter = self.resolve(parameter, &at)?;
                if parameter["in"] == "body" {
                    models = self.swagger_models(operation, &parameter["schema"], "consumes");
                } else {
                    parameters.extend(self.parameter(parameter, &at)?);
                }
            }
        }
        if self.dialect == Dialect::OpenApi {
            let body = self.resolve(&operation["requestBody"], &format!("{at}.requestBody"))?;
            models = content_models(body, &format!("{at}.requestBody"))?;
        }
        for (member, value) in [("requestParameters", parameters), ("requestModels", models)] {
            if !value.is_empty() {
                members.insert(member.into(), value.into());
            }
        }
        if operation.get("x-amazon-apigateway-request-validator").is_some() {
            let at = format!("{at}.x-amazon-apigateway-request-validator");
            self.warn(&at, "Tollgate does not serve request validators; it is ignored");
        }
        let mut method = Method::new(name, members).map_err(|error| invalid_members(at, &error))?;
        self.read_responses(&mut method, operation, at)?;
        method.integration =
            read_integration(&operation[INTEGRATION], &format!("{at}.{INTEGRATION}"))?;
        Ok(method)
    }

    /// A parameter in AWS' words, such as `method.request.header.X-Model`, and whether it is
    /// required.
    fn parameter(
        &mut self,
        parameter: &Value,
        at: &str,
    ) -> Result<Option<(String, Value)>, ControlError> {
        let name = text_at(&parameter["name"], &format!("{at}.name"))?;
        let name = name.ok_or_else(|| invalid(at, "name: it is missing"))?;
        let place = match parameter["in"].as_str() {
            Some(place @ ("path" | "header")) => place,
            Some("query") => "querystring",
            Some("cookie" | "formData") => {
                self.warn(at, "only parameters in path, query and header are kept; it is ignored");
                return Ok(None);
            }
            _ => return Err(invalid(at, "in: expected one of path, query, header")),
        };
        let required = Self::is_required(parameter, at)?;
        Ok(Some((format!("method.request.{place}.{name}"), required.into())))
    }

    fn read_responses(
        &mut self,
        method: &mut Method,
        operation: &'d Value,
        at: &str,
    ) -> Result<(), ControlError> {
        let at = format!("{at}.responses");
        let responses = object_at(&operation["responses"], &at)?.into_iter().flatten();
        for (code, response) in responses.filter(|(code, _)| !code.starts_with("x-")) {
            let at = format!("{at}.{code}");
            if code == "default" || code.ends_with("XX") {
                self.warn(&at, "a method's response has one status code; it is ignored");
                continue;
            }
            let response = self.resolve(response, &at)?;
            object_at(response, &at)?;
            let mut members = Map::new();
            let headers = object_at(&response["headers"], &format!("{at}.headers"))?;
            let headers: Map<String, Value> = headers
                .into_iter()
                .flat_map(Map::keys)
                .map(|name| (format!("method.response.header.{name}"), false.into()))
                .collect();
            let models = match self.dialect {
                Dialect::Swagger => self.swagger_models(operation, &response["schema"], "produces"),
                Dialect::OpenApi => content_models(response, &at)?,
            };
            for (member, value) in [("responseParameters", headers), ("responseModels", models)] {
                if !value.is_empty() {
                    members.insert(member.into(), value.into());
                }
            }
            let response = StatusResponse::new(ResponseOwner::Method, code, members);
            let response = response.map_err(|error| invalid_members(&at, &error))?;
            method.responses_mut(ResponseOwner::Method)?.insert(code.clone(), response);
        }
        Ok(())
    }

    /// The model of a schema, for each media type that Swagger lists apart from it.
    fn swagger_models(&self, operation: &Value, schema: &Value, types: &str) -> Map<String, Value> {
        let Some(model) = model_name(schema) else { return Map::new() };
        let own = operation.get(types).or_else(|| self.document.get(types));
        let listed = own.and_then(Value::as_array).into_iter().flatten();
        let mut listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
        if listed.is_empty() {
            listed.push("application/json");
        }
        listed.into_iter().map(|media| (media.to_owned(), model.into())).collect()
    }
}

/// The models of a body, by its media types.
fn content_models(body: &Value, at: &str) -> Result<Map<String, Value>, ControlError> {
    object_at(body, at)?;
    let content = object_at(&body["content"], &format!("{at}.content"))?.into_iter().flatten();
    let model =
        |(media, of): (&String, &Value)| Some((media.clone(), model_name(&of["schema"])?.into()));
    Ok(content.filter_map(model).collect())
}

/// The name of a schema that is referred to.
fn model_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}
