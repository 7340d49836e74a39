//! The lines of a catalog file on which its limits and keys are written.
//!
//! Only explanations need them, so the text is read again for each: a catalog in use holds no
//! lines. What the entries mean is read elsewhere.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::syntax;

/// Lines, from 1, by the names of limits and the ids of keys.
#[derive(Default)]
pub struct FileLines {
    limits: HashMap<String, u64>,
    keys: HashMap<String, u64>,
}

#[derive(Deserialize)]
struct WrittenCatalog {
    #[serde(default)]
    apis: Vec<WrittenApi>,
    #[serde(default)]
    plans: Vec<WrittenPlan>,
    #[serde(default)]
    policies: Vec<WrittenOwner>,
    #[serde(default)]
    keys: Vec<Spanned<WrittenKey>>,
}

#[derive(Deserialize)]
struct WrittenApi {
    id: String,
    #[serde(default)]
    stages: Vec<WrittenOwner>,
}

/// A stage or a policy.
#[derive(Deserialize)]
struct WrittenOwner {
    name: String,
    throttle: Option<Spanned<Value>>,
    quota: Option<Spanned<Value>>,
    #[serde(default)]
    limits: Vec<Spanned<WrittenLimit>>,
    #[serde(default)]
    methods: BTreeMap<String, Spanned<Value>>,
}

#[derive(Deserialize)]
struct WrittenPlan {
    id: String,
    throttle: Option<Spanned<Value>>,
    quota: Option<Spanned<Value>>,
    #[serde(default)]
    limits: Vec<Spanned<WrittenLimit>>,
    api_stages: Option<Vec<WrittenApiStage>>,
}

#[derive(Deserialize)]
struct WrittenApiStage {
    api: String,
    stage: String,
    #[serde(default)]
    methods: BTreeMap<String, Spanned<Value>>,
}

#[derive(Deserialize)]
struct WrittenLimit {
    name: String,
}

#[derive(Deserialize)]
struct WrittenKey {
    id: String,
}

impl FileLines {
    /// The lines of a catalog's text; none if it is no catalog.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut lines = Self::default();
        let Ok(catalog) = syntax::from_yaml::<WrittenCatalog>(text, true) else { return lines };
        for api in catalog.apis {
            for stage in api.stages {
                let prefix = format!("stage:{}/{}/", api.id, stage.name);
                lines.add_owner(&prefix, &stage);
            }
        }
        for policy in catalog.policies {
            lines.add_owner(&format!("policy:{}/", policy.name), &policy);
        }
        for plan in catalog.plans {
            let prefix = format!("{}/", plan.id);
            lines.add_limits(&prefix, plan.throttle.as_ref(), plan.quota.as_ref(), &plan.limits);
            for stage in plan.api_stages.into_iter().flatten() {
                let prefix = format!("{prefix}{}/{}/", stage.api, stage.stage);
                lines.add_methods(&prefix, &stage.methods);
            }
        }
        let keys = catalog.keys.into_iter();
        lines.keys = keys.map(|key| (key.value.id, key.referenced.line())).collect();
        lines
    }

    /// The line of a limit, by the name that the file declares.
    #[must_use]
    pub fn of_limit(&self, name: &str) -> Option<u64> {
        self.limits.get(name).copied()
    }

    /// The line on which the API key with this id begins.
    #[must_use]
    pub fn of_key(&self, id: &str) -> Option<u64> {
        self.keys.get(id).copied()
    }

    fn add_owner(&mut self, prefix: &str, owner: &WrittenOwner) {
        self.add_limits(prefix, owner.throttle.as_ref(), owner.quota.as_ref(), &owner.limits);
        self.add_methods(prefix, &owner.methods);
    }

    fn add_limits(
        &mut self,
        prefix: &str,
        throttle: Option<&Spanned<Value>>,
        quota: Option<&Spanned<Value>>,
        limits: &[Spanned<WrittenLimit>],
    ) {
        for (name, written) in [("throttle", throttle), ("quota", quota)] {
            if let Some(written) = written {
                self.limits.insert(format!("{prefix}{name}"), written.referenced.line());
            }
        }
        for limit in limits {
            let name = format!("{prefix}{}", limit.value.name);
            self.limits.insert(name, limit.referenced.line());
        }
    }

    fn add_methods(&mut self, prefix: &str, methods: &BTreeMap<String, Spanned<Value>>) {
        for (method, written) in methods {
            let words: Vec<_> = method.split_ascii_whitespace().collect();
            let name = format!("{prefix}{}/throttle", words.join(" "));
            self.limits.insert(name, written.referenced.line());
        }
    }
}
