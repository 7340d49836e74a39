//! A document's definition of an API: its members, its security schemes and its paths.
//!
//! Operations are read in `operations`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ANY_METHOD, API_EXTENSIONS, Dialect, KEY_HEADER};
use super::{flag_at, invalid, list_at, object_at, text_at};
use crate::control::model::{ApiDefinition, ControlError, PathMethods};

/// The most warnings that a response lists.
const MAX_WARNINGS: usize = 100;
/// The most references that lead to a value.
const MAX_REFERENCES: usize = 10;

/// The effect of a security scheme.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scheme {
    /// A method needs an API key.
    ApiKey,
    /// A method needs a signature of AWS.
    Iam,
    /// None.
    Ignored,
}

/// A document that is being read.
pub(super) struct Reader<'d> {
    pub(super) document: &'d Value,
    pub(super) dialect: Dialect,
    pub(super) schemes: BTreeMap<&'d str, Scheme>,
    warnings: Vec<String>,
    further_warnings: usize,
}

/// The definition of an API in a document, and warnings about what is left out.
///
/// # Errors
/// If the document is of another format, has a fault, or defines an authorizer. The error names the
/// place.
pub fn definition_from_document(
    document: &Value,
) -> Result<(ApiDefinition, Vec<String>), ControlError> {
    if !document.is_object() {
        return Err(ControlError::BadRequest("Invalid OpenAPI document: it is no object".into()));
    }
    let dialect = Dialect::of(document)?;
    let (schemes, warnings) = (BTreeMap::new(), Vec::new());
    let mut reader = Reader { document, dialect, schemes, warnings, further_warnings: 0 };
    reader.read_schemes()?;
    let (name, members) = reader.members()?;
    let paths = reader.paths()?;
    let mut warnings = reader.warnings;
    if reader.further_warnings > 0 {
        warnings.push(format!("and {} further warnings", reader.further_warnings));
    }
    Ok((ApiDefinition { name, members, paths }, warnings))
}

impl Dialect {
    fn of(document: &Value) -> Result<Self, ControlError> {
        let (swagger, openapi) = (&document["swagger"], &document["openapi"]);
        match (text_at(swagger, "swagger")?, text_at(openapi, "openapi")?) {
            (Some(version), None) if version == "2.0" => Ok(Self::Swagger),
            (None, Some(version)) if version.starts_with("3.0") => Ok(Self::OpenApi),
            (Some(_), None) => Err(invalid("swagger", "only 2.0 is served")),
            (None, Some(_)) => Err(invalid("openapi", "only 3.0 is served")),
            _ => Err(invalid("openapi", "a document has either openapi: 3.0 or swagger: 2.0")),
        }
    }
}

impl<'d> Reader<'d> {
    pub(super) fn warn(&mut self, at: &str, why: &str) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(format!("{at}: {why}"));
        } else {
            self.further_warnings += 1;
        }
    }

    /// A value, or the one that its `$ref` leads to.
    pub(super) fn resolve(
        &self,
        mut value: &'d Value,
        at: &str,
    ) -> Result<&'d Value, ControlError> {
        for _ in 0..MAX_REFERENCES {
            let Some(reference) = value.get("$ref") else { return Ok(value) };
            let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
            let found = pointer.and_then(|pointer| self.document.pointer(pointer));
            value =
                found.ok_or_else(|| invalid(at, "$ref: it leads to nothing in this document"))?;
        }
        Err(invalid(at, "$ref: it leads to too many others"))
    }

    /// The name and the members of the API.
    fn members(&mut self) -> Result<(String, Map<String, Value>), ControlError> {
        let info = &self.document["info"];
        object_at(info, "info")?.ok_or_else(|| invalid("info", "it is missing"))?;
        let name = text_at(&info["title"], "info.title")?.filter(|title| !title.is_empty());
        let name = name.ok_or_else(|| invalid("info.title", "it is missing; it names the API"))?;
        let mut members = Map::new();
        for member in ["description", "version"] {
            let text = text_at(&info[member], &format!("info.{member}"))?;
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                members.insert(member.into(), text.into());
            }
        }
        for (extension, member) in API_EXTENSIONS {
            if let Some(value) = self.document.get(extension) {
                members.insert(member.into(), value.clone());
            }
        }
        if let Some(policy) =
            object_at(&self.document["x-amazon-apigateway-policy"], "x-amazon-apigateway-policy")?
        {
            members.insert("policy".into(), Value::Object(policy.clone()).to_string().into());
        }
        self.endpoint(&mut members)?;
        for (extension, what) in [
            ("x-amazon-apigateway-gateway-responses", "gateway responses"),
            ("x-amazon-apigateway-request-validators", "request validators"),
            ("x-amazon-apigateway-request-validator", "request validators"),
        ] {
            if self.document.get(extension).is_some() {
                self.warn(extension, &format!("Tollgate does not serve {what}; it is ignored"));
            }
        }
        Ok((name, members))
    }

    /// The settings of the endpoint, which OpenAPI has in a server.
    fn endpoint(&self, members: &mut Map<String, Value>) -> Result<(), ControlError> {
        const ENDPOINT: &str = "x-amazon-apigateway-endpoint-configuration";
        let servers = match self.dialect {
            Dialect::Swagger => &[],
            Dialect::OpenApi => list_at(&self.document["servers"], "servers")?,
        };
        for settings in std::iter::once(self.document).chain(servers).map(|at| &at[ENDPOINT]) {
            let Some(settings) = object_at(settings, ENDPOINT)? else { continue };
            let mut settings = settings.clone();
            if let Some(disabled) = settings.remove("disableExecuteApiEndpoint") {
                members.insert("disableExecuteApiEndpoint".into(), disabled);
            }
            if !settings.is_empty() {
                members.insert("endpointConfiguration".into(), settings.into());
            }
        }
        Ok(())
    }

    fn read_schemes(&mut self) -> Result<(), ControlError> {
        let (schemes, at) = match self.dialect {
            Dialect::Swagger => (&self.document["securityDefinitions"], "securityDefinitions"),
            Dialect::OpenApi => {
                (&self.document["components"]["securitySchemes"], "components.securitySchemes")
            }
        };
        for (name, scheme) in object_at(schemes, at)?.into_iter().flatten() {
            let at = format!("{at}.{name}");
            object_at(scheme, &at)?;
            let scheme = Self::scheme(scheme, &at)?;
            if scheme == Scheme::Ignored {
                let why = "only API keys in the header x-api-key have an effect; it is ignored";
                self.warn(&at, why);
            }
            self.schemes.insert(name, scheme);
        }
        Ok(())
    }

    fn scheme(scheme: &Value, at: &str) -> Result<Scheme, ControlError> {
        let authtype = text_at(&scheme["x-amazon-apigateway-authtype"], at)?;
        let is_iam = authtype.as_deref().is_some_and(|it| it.eq_ignore_ascii_case("awsSigv4"));
        if scheme.get("x-amazon-apigateway-authorizer").is_some() || (authtype.is_some() && !is_iam)
        {
            return Err(invalid(at, "Tollgate does not serve authorizers"));
        }
        let is_key = scheme["type"] == "apiKey"
            && scheme["in"] == "header"
            && scheme["name"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(KEY_HEADER));
        Ok(match () {
            () if is_iam => Scheme::Iam,
            () if is_key => Scheme::ApiKey,
            () => Scheme::Ignored,
        })
    }

    fn paths(&mut self) -> Result<PathMethods, ControlError> {
        let paths = object_at(&self.document["paths"], "paths")?;
        let paths = paths.ok_or_else(|| invalid("paths", "it is missing"))?;
        let mut read = PathMethods::new();
        for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
            let at = format!("paths.{path}");
            let trimmed = if path == "/" { path } else { path.trim_end_matches('/') };
            let Some(item) = object_at(item, &at)? else {
                read.entry(trimmed.to_owned()).or_default();
                continue;
            };
            if item.contains_key("$ref") {
                return Err(invalid(&at, "$ref: write the path's operations here"));
            }
            if !path.starts_with('/') {
                return Err(invalid(&at, "a path begins with a slash"));
            }
            if read.contains_key(trimmed) {
                return Err(invalid(&at, "the path is there twice"));
            }
            let shared = item.get("parameters").unwrap_or(&Value::Null);
            let mut methods = BTreeMap::new();
            for (name, operation) in item {
                let at = format!("{at}.{name}");
                let method = match &**name {
                    "get" | "put" | "post" | "delete" | "options" | "head" | "patch" => {
                        name.to_ascii_uppercase()
                    }
                    ANY_METHOD => "ANY".to_owned(),
                    "trace" => {
                        self.warn(&at, "AWS has no such method; it is ignored");
                        continue;
                    }
                    "parameters" | "summary" | "description" | "servers" => continue,
                    name if name.starts_with("x-") => continue,
                    _ => return Err(invalid(&at, "it is no HTTP method in lower case")),
                };
                object_at(operation, &at)?.ok_or_else(|| invalid(&at, "expected an object"))?;
                let read = self.operation(&method, operation, shared, &at)?;
                methods.insert(method, read);
            }
            read.insert(trimmed.to_owned(), methods);
        }
        Ok(read)
    }

    /// The members that say who may call a method.
    pub(super) fn access(
        &self,
        operation: &Value,
        at: &str,
    ) -> Result<Map<String, Value>, ControlError> {
        let own = operation.get("security");
        let requirements = own.unwrap_or(&self.document["security"]);
        let at = if own.is_some() { format!("{at}.security") } else { "security".into() };
        let (mut key, mut authorization) = (false, "NONE".to_owned());
        for (place, requirement) in list_at(requirements, &at)?.iter().enumerate() {
            let at = format!("{at}[{place}]");
            for name in object_at(requirement, &at)?.into_iter().flat_map(Map::keys) {
                match self.schemes.get(&**name) {
                    Some(Scheme::ApiKey) => key = true,
                    Some(Scheme::Iam) => authorization = "AWS_IAM".into(),
                    Some(Scheme::Ignored) => {}
                    None => {
                        return Err(invalid(&at, format!("there is no security scheme {name}")));
                    }
                }
            }
        }
        let auth = &operation["x-amazon-apigateway-auth"];
        if let Some(kind) = text_at(&auth["type"], &format!("{at}.x-amazon-apigateway-auth"))? {
            authorization = kind.to_ascii_uppercase();
        }
        let members = json!({ "apiKeyRequired": key, "authorizationType": authorization });
        Ok(members.as_object().cloned().unwrap_or_default())
    }

    /// The required flag of a parameter, which is false unless given.
    pub(super) fn is_required(parameter: &Value, at: &str) -> Result<bool, ControlError> {
        Ok(flag_at(&parameter["required"], &format!("{at}.required"))?.unwrap_or(false))
    }
}
