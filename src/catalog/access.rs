//! The access to a stage's methods, as the admin API declares it: those that need no API key, and
//! APIs whose keys are named by the gateway.
//!
//! A method that is not declared needs a key, and so does every method of a catalog file.

use serde::Serialize;

use super::resolve::{CheckError, forbidden, normalize_route};
use super::route::{HttpRoute, PathPattern, other_readings};
use super::{Catalog, CheckRequest, StageLimits};

/// A stage's access in its written form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RawAccess {
    /// True if a gateway authenticates the clients and names their keys by id (`AUTHORIZER`).
    pub keys_from_gateway: bool,
    /// The methods of the deployment that the stage serves.
    pub methods: Vec<RawMethodAccess>,
}

impl RawAccess {
    /// True if it declares nothing.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The access to one method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawMethodAccess {
    /// The path of its resource, such as `/pets/{id}` or `/{proxy+}`.
    pub path: String,
    /// The HTTP method, or `ANY`.
    pub method: String,
    /// True if it needs an API key.
    pub needs_key: bool,
}

/// A stage's access.
#[derive(Default)]
pub(super) struct StageAccess {
    keys_from_gateway: bool,
    /// Resources with their methods, the most specific first; empty if every method needs a key.
    resources: Vec<(PathPattern, Vec<RawMethodAccess>)>,
}

impl StageAccess {
    pub(super) fn build(raw: &RawAccess) -> Self {
        let mut resources: Vec<(PathPattern, Vec<RawMethodAccess>)> = Vec::new();
        // Nothing is below a greedy variable: it takes the rest of the path.
        let can_be_requested = |method: &&RawMethodAccess| !method.path.contains("+}/");
        let mut methods: Vec<_> = raw.methods.iter().filter(can_be_requested).collect();
        if methods.iter().all(|method| method.needs_key) {
            methods.clear();
        }
        methods.sort_by(|one, other| one.path.cmp(&other.path));
        for of_path in methods.chunk_by(|one, other| one.path == other.path) {
            let methods = of_path.iter().map(|&method| method.clone()).collect();
            resources
                .extend(of_path.first().map(|it| (PathPattern::of_resource(&it.path), methods)));
        }
        resources.sort_by(|(one, _), (other, _)| one.cmp_specificity(other));
        Self { keys_from_gateway: raw.keys_from_gateway, resources }
    }

    /// True if the gateway names the keys of its clients.
    pub(super) fn has_keys_from_gateway(&self) -> bool {
        self.keys_from_gateway
    }

    /// True if the method is declared without a need for a key, in whichever way the service behind
    /// the gateway reads the requested path: `/pets/a%2Fb` may be `/pets/{id}` there.
    fn needs_no_key(&self, route: &HttpRoute<'_>, requested_path: &str) -> bool {
        let method = &*route.method;
        let is_keyless = |path: &str| self.is_keyless(method, path);
        let mut others = other_readings(requested_path).into_iter();
        is_keyless(&route.path) && others.all(|path| path.is_some_and(|path| is_keyless(&path)))
    }

    /// True if the method of the most specific resource, by its name or as `ANY`, needs no key, as
    /// in AWS.
    fn is_keyless(&self, method: &str, path: &str) -> bool {
        let resource = self.resources.iter().find(|(pattern, _)| pattern.matches(path));
        let Some((_, methods)) = resource else { return false };
        let find = |name: &str| methods.iter().find(|method| method.method == name);
        find(method).or_else(|| find("ANY")).is_some_and(|method| !method.needs_key)
    }
}

impl Catalog {
    /// True if the requested method is declared and needs no API key. Its stage's limits hold.
    #[must_use]
    pub fn needs_no_key(&self, request: &CheckRequest<'_>) -> bool {
        let stage = self.requested_stage(request);
        let Some(stage) = stage.filter(|stage| !stage.access.resources.is_empty()) else {
            return false;
        };
        let route = normalize_route(request).ok().flatten().zip(request.path);
        route.is_some_and(|(route, path)| stage.access.needs_no_key(&route, path))
    }

    /// Checks that clients of the requested API may send the values of their keys. Costs nothing
    /// while no API has its keys from the gateway.
    ///
    /// # Errors
    /// If the gateway names the keys of this API's clients.
    pub fn check_key_source(&self, request: &CheckRequest<'_>) -> Result<(), CheckError> {
        let stage = self.has_gateway_keys.then(|| self.requested_stage(request)).flatten();
        if !stage.is_some_and(|stage| stage.access.keys_from_gateway) {
            return Ok(());
        }
        forbidden(
            "the API takes its keys from an authorizer (apiKeySource AUTHORIZER), so a client's api_key is not accepted: the gateway authenticates the client and sends the key's id as key_id",
        )
    }

    fn requested_stage(&self, request: &CheckRequest<'_>) -> Option<&StageLimits> {
        self.apis.get(request.api?)?.get(request.stage?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::route::normalize_path;

    #[test]
    #[rustfmt::skip]
    fn the_most_specific_resource_says_if_a_method_needs_a_key() {
        let raw = |(path, method, needs_key): (&str, &str, bool)| RawMethodAccess {
            path: path.into(), method: method.into(), needs_key,
        };
        let methods = [
            ("/", "GET", false), ("/{proxy+}", "ANY", true), ("/{proxy+}", "OPTIONS", false),
            ("/pets", "GET", false), ("/pets/{id}", "ANY", false), ("/pets/secret", "GET", true),
            ("/a:b", "GET", false), ("/a;b", "GET", false), ("/files/{path+}", "GET", false),
            ("/docs/{path+}/x", "GET", false), ("/keyed/{id}", "GET", true), ("/keyed/{id}/{rest+}", "GET", false),
        ];
        let raw = RawAccess { keys_from_gateway: false, methods: methods.map(raw).to_vec() };
        let access = StageAccess::build(&raw);
        let cases = [
            ("GET", "/", true), ("POST", "/", false), ("GET", "/pets", true), ("GET", "//pets/", true),
            ("POST", "/pets", false), ("PUT", "/pets/7", true), ("GET", "/pets/7?x=1", true),
            ("GET", "/pets/secret", false), ("PUT", "/pets/secret", false),
            ("GET", "/pets/7/../secret", false), ("GET", "/pets/%73ecret", false),
            ("OPTIONS", "/pets/secret", false), ("OPTIONS", "/x/y", true), ("GET", "/x/y", false),
            ("GET", "/a:b", true), ("GET", "/a;b", false), ("GET", "/a%3Bb", true),
            ("GET", "/files/a/b", true), ("GET", "/files", false), ("get", "/pets", false),
            // Another reading of the path needs a key.
            ("GET", "/keyed/a/b", true), ("GET", "/keyed/a%2fb", false), ("GET", "/keyed/a%2Fb", false),
            ("GET", "/x/../pets", false), ("GET", "/x%2f../pets", false), ("GET", "/x/%2e%2e;/pets", false),
            ("GET", "/x;/..;/pets", false), ("GET", "/pets;%zz", false), ("GET", "/a;b/../a;b", false),
            // All readings need none.
            ("GET", "/files/a%2fb;c/%2e/d", true), ("OPTIONS", "/x/..%2fy;z", true), ("GET", "/pets/a%20b", true),
            // Nothing is below a greedy variable.
            ("GET", "/docs/a", false), ("GET", "/docs/a/x", false),
        ];
        for (method, path, expected) in cases {
            let route = HttpRoute { method: method.into(), path: normalize_path(path).unwrap() };
            assert_eq!(access.needs_no_key(&route, path), expected, "{method} {path}");
        }
        let mut closed = raw;
        closed.methods.iter_mut().for_each(|method| method.needs_key = true);
        assert!(StageAccess::build(&closed).resources.is_empty());
    }
}
