//! The resources of the catalog file in AWS' members, marked as the file's.
//!
//! The admin API shows them and never changes them. Rates are rendered per second, to the nearest number.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::algorithm::Rate;
use crate::catalog::{ApiKey, FileOwned};
use crate::control::model::{KeyRecord, PLAN_MEMBERS};
use crate::control::serving::LiveCatalog;

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

    /// Usage plans by their ids.
    pub(super) fn plans(&self) -> BTreeMap<String, Value> {
        self.read(|owned| {
            owned.plans.iter().map(|(id, plan)| (id.clone(), plan_to_aws(id, plan))).collect()
        })
    }

    /// The usage plan with this id.
    pub(super) fn plan(&self, id: &str) -> Option<Value> {
        self.read(|owned| owned.plans.get(id).map(|plan| plan_to_aws(id, plan)))
    }

    /// APIs by their ids.
    pub(super) fn apis(&self) -> BTreeMap<String, Value> {
        let api = |id: &String| (id.clone(), json!({ "id": id, "name": id, "owner": "file" }));
        self.read(|owned| owned.apis.keys().map(api).collect())
    }

    /// The stages of an API by their names.
    pub(super) fn stages(&self, api: &str) -> BTreeMap<String, Value> {
        self.read(|owned| {
            let stages = owned.apis.get(api).and_then(|api| api["stages"].as_array());
            stages
                .into_iter()
                .flatten()
                .map(|stage| (text_of(&stage["name"]), stage_to_aws(stage)))
                .collect()
        })
    }

    /// The keys that `is_selected` accepts.
    pub(super) fn keys(&self, is_selected: impl Fn(&ApiKey) -> bool) -> Vec<KeyRecord> {
        let Some(catalog) = self.live.file_backed_catalog() else { return Vec::new() };
        let overrides = &catalog.file_owned().overrides;
        let keys = catalog.keys().filter(|key| is_selected(key));
        keys.filter_map(|key| key_to_record(key, overrides.get(&*key.id))).collect()
    }

    /// The key with this id.
    pub(super) fn key(&self, id: &str) -> Option<KeyRecord> {
        let catalog = self.live.file_backed_catalog()?;
        key_to_record(catalog.key_by_id(id)?, catalog.file_owned().overrides.get(id))
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

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn rate_per_second(source: &Value) -> Option<f64> {
    Some(source["rate"].as_str()?.parse::<Rate>().ok()?.per_second())
}

fn throttle_to_aws(source: &Value) -> Value {
    let mut rendered = Map::new();
    rendered.extend(rate_per_second(source).map(|rate| ("rateLimit".to_owned(), rate.into())));
    rendered.extend(source.get("burst").map(|burst| ("burstLimit".to_owned(), burst.clone())));
    rendered.into()
}

fn quota_to_aws(source: &Value) -> Value {
    const WEEKDAYS: [&str; 7] =
        ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let start = source["starts_on"].as_str().map(str::to_ascii_lowercase);
    let offset = match (source["period"].as_str(), start.as_deref()) {
        (Some("week"), start) => WEEKDAYS.iter().position(|day| *day == start.unwrap_or("monday")),
        (_, start) => start.and_then(|day| day.parse::<usize>().ok()).map(|day| day - 1),
    };
    let period = text_of(&source["period"]).to_uppercase();
    let mut rendered =
        json!({ "limit": source["limit"], "period": period, "offset": offset.unwrap_or(0) });
    if let Some(zone) = source.get("time_zone") {
        rendered["timeZone"] = zone.clone();
    }
    rendered
}

/// `GET /pets` in AWS' order of path and method; `*` is every method of every path.
fn split_method(name: &str) -> (&str, &str) {
    let named = name.split_once(char::is_whitespace);
    named.map_or(("/*", "*"), |(method, path)| (path.trim(), method))
}

fn method_throttles(parent: &Value) -> impl Iterator<Item = ((&str, &str), Value)> {
    let methods = parent["methods"].as_object().into_iter().flatten();
    methods.map(|(name, limits)| (split_method(name), throttle_to_aws(&limits["throttle"])))
}

fn plan_to_aws(id: &str, source: &Value) -> Value {
    let mut plan = json!({ "id": id, "name": id, "owner": "file", "apiStages": [] });
    for (member, name) in PLAN_MEMBERS {
        plan[name] = source[member].clone();
    }
    if let Some(source) = source.get("throttle") {
        plan["throttle"] = throttle_to_aws(source);
    }
    if let Some(source) = source.get("quota") {
        plan["quota"] = quota_to_aws(source);
    }
    for stage in source["api_stages"].as_array().into_iter().flatten() {
        let throttles = method_throttles(stage)
            .map(|((path, method), rendered)| (format!("{path}/{method}"), rendered));
        let throttles: Map<String, Value> = throttles.collect();
        let rendered =
            json!({ "apiId": stage["api"], "stage": stage["stage"], "throttle": throttles });
        plan["apiStages"]
            .as_array_mut()
            .into_iter()
            .for_each(|stages| stages.push(rendered.clone()));
    }
    plan
}

fn stage_to_aws(source: &Value) -> Value {
    let settings = method_throttles(source).map(|((path, method), rendered)| {
        let path =
            if method == "*" { "*".into() } else { path.replace('~', "~0").replace('/', "~1") };
        let rendered = json!({
            "throttlingRateLimit": rendered["rateLimit"], "throttlingBurstLimit": rendered["burstLimit"],
        });
        (format!("{path}/{method}"), rendered)
    });
    let settings: Map<String, Value> = settings.collect();
    let mut stage = json!({
        "stageName": source["name"], "owner": "file", "methodSettings": settings,
        "consistency": source["consistency"],
    });
    if let Some(source) = source.get("throttle") {
        stage["throttle"] = throttle_to_aws(source);
    }
    stage
}

/// A key as the API has it, but that the file knows no dates.
fn key_to_record(key: &ApiKey, overrides: Option<&Value>) -> Option<KeyRecord> {
    let end = key.expires_at.and_then(|end| i64::try_from(end.get()).ok());
    let end = end.and_then(|end| jiff::Timestamp::from_microsecond(end).ok());
    let record = json!({
        "id": &*key.id, "createdDate": 0, "lastUpdatedDate": 0, "sha256": "",
        "plans": key.plans.iter().map(|plan| &**plan).collect::<Vec<_>>(),
        "name": key.name, "enabled": key.enabled, "customerId": key.customer_id.as_deref(),
        "expiresAt": end.map(|end| end.to_string()),
        "overrides": overrides.map_or_else(|| json!({}), overrides_to_aws),
    });
    match serde_json::from_value::<KeyRecord>(record) {
        Ok(mut record) => {
            record.from_file = true;
            Some(record)
        }
        Err(error) => {
            tracing::error!(key = &*key.id, %error, "a key of the catalog file cannot be shown");
            None
        }
    }
}

/// A key's own sizes.
fn overrides_to_aws(source: &Value) -> Value {
    let sizes = source.as_object().into_iter().flatten().map(|(plan, source)| {
        let mut sizes = source.clone();
        if let Some(source) = source.get("throttle") {
            sizes["throttle"] = throttle_to_aws(source);
        }
        (plan.clone(), sizes)
    });
    Value::Object(sizes.collect())
}
