//! The members of an API that say which of its methods need an API key, and how clients send it.
//!
//! The methods are those of a deployment, as in AWS: a changed method takes effect once it is
//! deployed. Requests are not known here.

use super::rest_api::RestApi;

/// A method of a deployment.
pub(in crate::control) struct DeployedMethod<'a> {
    /// The path of its resource.
    pub(in crate::control) path: &'a str,
    /// The HTTP method, or `ANY`.
    pub(in crate::control) method: &'a str,
    /// True if a request needs an API key: the method requires one, or has an authorization that is
    /// not verified here.
    pub(in crate::control) needs_key: bool,
}

impl RestApi {
    /// The methods of a deployment; none if there is no such deployment.
    pub(in crate::control) fn deployed_methods(&self, deployment: &str) -> Vec<DeployedMethod<'_>> {
        let mut all = Vec::new();
        let resources = self.deployments.get(deployment).map(|deployment| &deployment.api_summary);
        for (path, methods) in resources.into_iter().flatten() {
            for (method, members) in methods.as_object().into_iter().flatten() {
                // A signature of IAM's is not verified here, so such a method is not for anybody.
                let is_open = matches!(members["authorizationType"].as_str(), None | Some("NONE"));
                let needs_key = members["apiKeyRequired"] != false || !is_open;
                all.push(DeployedMethod { path, method, needs_key });
            }
        }
        all
    }

    /// True if an authorizer names the keys of its clients, rather than a header of the request.
    pub(in crate::control) fn has_keys_from_gateway(&self) -> bool {
        self.spec.members.get("apiKeySource").is_some_and(|source| source == "AUTHORIZER")
    }
}
