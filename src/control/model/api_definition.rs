//! An API as a document defines it: its members, paths and methods, without ids, deployments and
//! stages.
//!
//! Documents themselves are translated in `translate/openapi`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::error::ControlError;
use super::methods::Method;
use super::rest_api::RestApi;

/// The methods of each path, by their HTTP methods.
pub(in crate::control) type PathMethods = BTreeMap<String, BTreeMap<String, Method>>;

/// The definition of an API.
#[derive(Clone, Debug, Default)]
pub struct ApiDefinition {
    /// The name of the API.
    pub name: String,
    /// The API's further members in AWS' names, such as `description`.
    pub members: Map<String, Value>,
    /// Paths, each beginning with a slash, with their methods. Those above them need not be here.
    pub paths: BTreeMap<String, BTreeMap<String, Method>>,
}

impl RestApi {
    /// The API as a stage serves it. The stage's deployment decides which methods there are, and
    /// which of them need an API key; further members of a method are those it has now.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn stage_definition(&self, stage: &str) -> Result<ApiDefinition, ControlError> {
        let deployment = self.stage(stage)?.deployment();
        let resources = self.resources.iter().map(|(_, resource)| resource);
        let current: BTreeMap<&str, &BTreeMap<String, Method>> =
            resources.map(|it| (&*it.path, &it.resource_methods)).collect();
        let mut paths = PathMethods::new();
        for (path, methods) in
            self.deployments.get(deployment).into_iter().flat_map(|it| &it.api_summary)
        {
            let current = current.get(&**path);
            let methods = methods.as_object().into_iter().flatten();
            let deployed = methods.filter_map(|(name, deployed)| {
                let now = current.and_then(|methods| methods.get(name));
                Some((name.clone(), Method::as_deployed(name, now, deployed.as_object()?)))
            });
            paths.entry(path.clone()).or_default().extend(deployed);
        }
        let mut members = self.spec.members.clone();
        if members.get("version").is_none_or(|version| version == "") {
            let created = i64::try_from(self.created_date).map(Timestamp::from_second);
            let created = created.ok().and_then(Result::ok).unwrap_or_default();
            members.insert("version".into(), created.to_string().into());
        }
        Ok(ApiDefinition { name: self.spec.name.clone(), members, paths })
    }
}
