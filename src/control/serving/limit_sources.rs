//! The places at which the limits of a check are declared: a line of the catalog file, or a
//! resource of the admin API. Read for explanations only.

use std::sync::Arc;

use super::LiveCatalog;
use crate::catalog::{ApiKey, Catalog, EXAMPLE, FileLines};
use crate::limit::Limit;

/// The places of the limits of one catalog.
pub struct LimitSources {
    catalog: Arc<Catalog>,
    /// The name of the file.
    file: String,
    lines: FileLines,
}

/// The declaration of a limit.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitSource {
    /// The pattern of the method that matched; `None` if the limit is not that of a method.
    pub pattern: Option<String>,
    /// True if an override of the API key has replaced the plan's size.
    pub is_override: bool,
    /// The place where it, or the override, is declared.
    pub place: LimitPlace,
}

/// A place where limits are declared.
#[derive(Debug, PartialEq, Eq)]
pub enum LimitPlace {
    /// The catalog file.
    File {
        /// Its name.
        file: String,
        /// The line, from 1; `None` if the file has changed since it was read.
        line: Option<u64>,
    },
    /// The path of a resource of the admin API.
    Resource(String),
}

/// The owner of a limit, and its method, by the limit's name.
struct DeclaredName<'n> {
    owner: Owner<'n>,
    pattern: Option<&'n str>,
}

enum Owner<'n> {
    Stage { api: &'n str, stage: &'n str },
    Policy,
    Plan(&'n str),
}

impl<'n> DeclaredName<'n> {
    fn parse(name: &'n str) -> Option<Self> {
        if name.starts_with("policy:") {
            return Some(Self { owner: Owner::Policy, pattern: None });
        }
        if let Some(name) = name.strip_prefix("stage:") {
            let (api, rest) = name.split_once('/')?;
            let (stage, rest) = rest.split_once('/')?;
            let pattern = rest.rsplit_once('/').map(|(pattern, _)| pattern);
            return Some(Self { owner: Owner::Stage { api, stage }, pattern });
        }
        let (plan, rest) = name.split_once('/')?;
        // The API and the stage come before the method.
        let method = rest.splitn(3, '/').nth(2).and_then(|rest| rest.rsplit_once('/'));
        Some(Self { owner: Owner::Plan(plan), pattern: method.map(|(pattern, _)| pattern) })
    }
}

/// The pattern `METHOD PATH` that the limit with this name belongs to, or `*`.
#[must_use]
pub fn method_pattern(limit: &str) -> Option<&str> {
    DeclaredName::parse(limit)?.pattern
}

impl LimitSources {
    /// The sources of the limits of `catalog`. Reads the catalog file, so this may take a while.
    #[must_use]
    pub fn read(live: &LiveCatalog, catalog: Arc<Catalog>) -> Self {
        let Some((path, contents)) = live.file_in_use() else {
            let lines = FileLines::of_text(EXAMPLE);
            return Self { catalog, file: "the built-in example".into(), lines };
        };
        let text = std::fs::read_to_string(path).ok().filter(|text| contents.is_of(text));
        let lines = text.map(|text| FileLines::of_text(&text)).unwrap_or_default();
        Self { catalog, file: path.display().to_string(), lines }
    }

    /// The source of a limit of a check of the API key `key`; `None` for limits of Envoy's.
    #[must_use]
    pub fn find(&self, limit: &Arc<Limit>, key: Option<&ApiKey>) -> Option<LimitSource> {
        let DeclaredName { owner, pattern } = DeclaredName::parse(limit.label())?;
        let pattern = pattern.map(str::to_owned);
        let owned = self.catalog.file_owned();
        let resource = match owner {
            Owner::Policy => None,
            Owner::Stage { api, stage } => {
                let resource = || format!("/restapis/{api}/stages/{stage}");
                (!owned.apis.contains_key(api)).then(resource)
            }
            Owner::Plan(plan) => {
                if let Some(key) = key
                    && pattern.is_none()
                    && self.is_override(plan, limit)
                {
                    let place = self.place_of_key(key);
                    return Some(LimitSource { pattern, is_override: true, place });
                }
                (!owned.plans.contains_key(plan)).then(|| format!("/usageplans/{plan}"))
            }
        };
        let line = self.lines.of_limit(limit.label());
        let in_file = || LimitPlace::File { file: self.file.clone(), line };
        let place = resource.map_or_else(in_file, LimitPlace::Resource);
        Some(LimitSource { pattern, is_override: false, place })
    }

    fn is_override(&self, plan: &str, limit: &Arc<Limit>) -> bool {
        let limits = self.catalog.plan_limits(plan);
        limits.is_some_and(|limits| !limits.iter().any(|own| Arc::ptr_eq(own, limit)))
    }

    fn place_of_key(&self, key: &ApiKey) -> LimitPlace {
        if self.catalog.key_by_id(&key.id).is_none() {
            return LimitPlace::Resource(format!("/apikeys/{}", key.id));
        }
        LimitPlace::File { file: self.file.clone(), line: self.lines.of_key(&key.id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_the_pattern_are_in_the_name_of_a_limit() {
        for (name, pattern) in [
            ("free/throttle", None),
            ("free/tpm", None),
            (
                "free/inference/prod/POST /v1/chat/completions/throttle",
                Some("POST /v1/chat/completions"),
            ),
            ("free/inference/prod/GET //throttle", Some("GET /")),
            ("stage:inference/prod/throttle", None),
            ("stage:inference/prod/*/throttle", Some("*")),
            ("stage:inference/prod/ANY /a/{id}/throttle", Some("ANY /a/{id}")),
            ("policy:login/throttle", None),
        ] {
            assert_eq!(DeclaredName::parse(name).unwrap().pattern, pattern, "{name}");
        }
    }
}
