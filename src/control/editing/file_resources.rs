//! The resources of the catalog file in AWS' members, marked as the file's.
//!
//! The admin API shows them and never changes them. Rates are shown per second, to the nearest
//! number.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalog::raw::{RawApi, RawPlan};
use crate::catalog::{ApiKey, FileOwned, PolicyView};
use crate::control::model::{KeyRecord, RestApi};
use crate::control::serving::LiveCatalog;
use crate::control::translate::{Losses, file_key, plan_from_catalog, stage_from_catalog};

/// The catalog file's resources; there are none without a file.
pub(super) struct FileResources<'e> {
    live: &'e LiveCatalog,
}

impl<'e> FileResources<'e> {
    pub(super) fn new(live: &'e LiveCatalog) -> Self {
        Self { live }
    }

    pub(super) fn has_plan(&self, id: &str) -> bool {
        self.read(|owned| owned.plans.contains_key(id))
    }

    pub(super) fn has_api(&self, id: &str) -> bool {
        self.read(|owned| owned.apis.contains_key(id))
    }

    pub(super) fn has_stage(&self, api: &str, name: &str) -> bool {
        self.read(|owned| {
            owned.apis.get(api).is_some_and(|api| api.stages.iter().any(|stage| stage.name == name))
        })
    }

    /// Usage plans by their ids.
    pub(super) fn plans(&self) -> BTreeMap<String, Value> {
        self.read(|owned| {
            owned.plans.iter().map(|(id, plan)| (id.clone(), render_plan(plan))).collect()
        })
    }

    /// The usage plan with this id.
    pub(super) fn plan(&self, id: &str) -> Option<Value> {
        self.read(|owned| owned.plans.get(id).map(render_plan))
    }

    /// APIs by their ids, as the admin API shows them.
    pub(super) fn apis(&self) -> BTreeMap<String, Value> {
        self.read(|owned| {
            let apis = owned.apis.values();
            apis.map(|api| (api.id.clone(), rest_api(api, owned.changed).to_aws_json())).collect()
        })
    }

    /// The API with this id.
    pub(super) fn api(&self, id: &str) -> Option<RestApi> {
        self.read(|owned| owned.apis.get(id).map(|api| rest_api(api, owned.changed)))
    }

    /// Policies by their names.
    pub(super) fn policies(&self) -> BTreeMap<String, Value> {
        let catalog = self.live.catalog();
        let render = |policy: PolicyView<'_>| {
            let limits = policy.limits.iter().map(|limit| {
                let unit = limit.unit().as_str();
                json!({ "name": &**limit.name(), "unit": unit, "limit": limit.capacity() })
            });
            let key_type = if policy.counts_addresses { "ip" } else { "text" };
            let limits: Vec<Value> = limits.collect();
            let shown = json!({ "name": policy.name, "keyType": key_type, "limits": limits });
            (policy.name.to_owned(), shown)
        };
        catalog.policies().map(render).collect()
    }

    /// Up to `limit` keys after the one with the id `after` that `is_selected` accepts, by their
    /// ids.
    pub(super) fn keys(
        &self,
        after: Option<&str>,
        limit: usize,
        is_selected: impl Fn(&ApiKey) -> bool,
    ) -> Vec<KeyRecord> {
        let Some(catalog) = self.live.file_backed_catalog() else { return Vec::new() };
        let owned = catalog.file_owned();
        let is_after = |key: &ApiKey| after.is_none_or(|after| *key.id > *after);
        let keys = catalog.keys().filter(|key| is_after(key) && is_selected(key));
        let mut keys: Vec<&Arc<ApiKey>> = keys.collect();
        // A page of many keys: only its own are sorted and rendered.
        if keys.len() > limit {
            keys.select_nth_unstable_by(limit, |one, other| one.id.cmp(&other.id));
            keys.truncate(limit);
        }
        keys.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        keys.into_iter().map(|key| file_key(key, owned)).collect()
    }

    /// The key with this id.
    pub(super) fn key(&self, id: &str) -> Option<KeyRecord> {
        let catalog = self.live.file_backed_catalog()?;
        Some(file_key(catalog.key_by_id(id)?, catalog.file_owned()))
    }

    fn read<T: Default>(&self, read: impl Fn(&FileOwned) -> T) -> T {
        self.live
            .file_backed_catalog()
            .map_or_else(T::default, |catalog| read(catalog.file_owned()))
    }
}

/// A page of keys of the file and of the registry, by their ids. If both have a key with the same
/// id, the file's counts.
pub(super) fn merge_keys(
    from_file: Vec<KeyRecord>,
    from_registry: Vec<KeyRecord>,
    limit: usize,
) -> Vec<KeyRecord> {
    let mut page = from_file;
    page.extend(from_registry);
    page.sort_by(|one, other| one.id.cmp(&other.id));
    page.dedup_by(|one, other| one.id == other.id);
    page.truncate(limit);
    page
}

/// A plan with all members of Tollgate's own, also where the file leaves them out.
fn render_plan(plan: &RawPlan) -> Value {
    let mut plan = plan_from_catalog(plan, "plan", &mut Losses::new());
    plan.spec.on_store_failure.get_or_insert_default();
    plan.spec.consistency.get_or_insert_default();
    plan.spec.mode.get_or_insert_default();
    let mut shown = json!(plan);
    shown["owner"] = "file".into();
    shown["limits"] = plan.spec.limits.into();
    shown["alongside"] = plan.spec.alongside.into();
    for stage in shown["apiStages"].as_array_mut().into_iter().flatten() {
        if stage["throttle"].is_null() {
            stage["throttle"] = json!({});
        }
    }
    shown
}

fn rest_api(api: &RawApi, changed: u64) -> RestApi {
    let stages = api.stages.iter();
    let stages = stages.map(|stage| stage_from_catalog(stage, "stage", &mut Losses::new()));
    RestApi::from_file(&api.id, stages.collect(), changed)
}
