//! What the catalog file declares, in the members of AWS' resources, marked as the file's.
//!
//! To be shown only: the file is where it is changed. Rates are told per second, to the nearest number.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Editor, KeyRecord, PLAN_MEMBERS};
use crate::catalog::{ApiKey, FileOwned};
use crate::limit::Rate;

impl Editor {
    /// The usage plans of the catalog file, by their ids.
    #[must_use]
    pub fn filed_plans(&self) -> BTreeMap<String, Value> {
        self.told(|filed| {
            filed.plans.iter().map(|(id, plan)| (id.clone(), plan_of(id, plan))).collect()
        })
    }

    /// The APIs of the catalog file, by their ids.
    #[must_use]
    pub fn filed_apis(&self) -> BTreeMap<String, Value> {
        let api = |id: &String| (id.clone(), json!({ "id": id, "name": id, "owner": "file" }));
        self.told(|filed| filed.apis.keys().map(api).collect())
    }

    /// The stages of an API of the catalog file, by their names.
    #[must_use]
    pub fn filed_stages(&self, api: &str) -> BTreeMap<String, Value> {
        self.told(|filed| {
            let stages = filed.apis.get(api).and_then(|api| api["stages"].as_array());
            stages
                .into_iter()
                .flatten()
                .map(|stage| (text(&stage["name"]), stage_of(stage)))
                .collect()
        })
    }

    /// The keys of the catalog file that are asked for, as they are shown.
    pub(super) fn filed_keys(&self, wanted: impl Fn(&ApiKey) -> bool) -> Vec<KeyRecord> {
        let Some(catalog) = self.live.filed() else { return Vec::new() };
        let overrides = &catalog.file_owned().overrides;
        let keys = catalog.keys().filter(|key| wanted(key));
        keys.filter_map(|key| key_of(key, overrides.get(&*key.id))).collect()
    }

    /// The key of the catalog file with this id, as it is shown.
    pub(super) fn filed_key(&self, id: &str) -> Option<KeyRecord> {
        let catalog = self.live.filed()?;
        key_of(catalog.key_by_id(id)?, catalog.file_owned().overrides.get(id))
    }

    /// A page of the API's keys with those of the file among them; of equal ids the file's counts.
    pub(super) fn with_filed(
        &self,
        of_api: Vec<KeyRecord>,
        limit: usize,
        wanted: impl Fn(&ApiKey) -> bool,
    ) -> Vec<KeyRecord> {
        let mut page = self.filed_keys(wanted);
        page.extend(of_api);
        page.sort_by(|one, other| one.id.cmp(&other.id));
        page.dedup_by(|one, other| one.id == other.id);
        page.truncate(limit);
        page
    }

    /// What is told of the file's entries; of none where there is no file.
    pub(super) fn told<T: Default>(&self, tell: impl Fn(&FileOwned) -> T) -> T {
        self.live.filed().map_or_else(T::default, |catalog| tell(catalog.file_owned()))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn per_second(written: &Value) -> Option<f64> {
    Some(written["rate"].as_str()?.parse::<Rate>().ok()?.per_second())
}

fn throttle(written: &Value) -> Value {
    let mut told = Map::new();
    told.extend(per_second(written).map(|rate| ("rateLimit".to_owned(), rate.into())));
    told.extend(written.get("burst").map(|burst| ("burstLimit".to_owned(), burst.clone())));
    told.into()
}

fn quota(written: &Value) -> Value {
    const WEEKDAYS: [&str; 7] =
        ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let start = written["starts_on"].as_str().map(str::to_ascii_lowercase);
    let offset = match (written["period"].as_str(), start.as_deref()) {
        (Some("week"), start) => WEEKDAYS.iter().position(|day| *day == start.unwrap_or("monday")),
        (_, start) => start.and_then(|day| day.parse::<usize>().ok()).map(|day| day - 1),
    };
    let period = text(&written["period"]).to_uppercase();
    let mut told =
        json!({ "limit": written["limit"], "period": period, "offset": offset.unwrap_or(0) });
    if let Some(zone) = written.get("time_zone") {
        told["timeZone"] = zone.clone();
    }
    told
}

/// `GET /pets` in AWS' order of path and method; `*` is every method of every path.
fn method(name: &str) -> (&str, &str) {
    let named = name.split_once(char::is_whitespace);
    named.map_or(("/*", "*"), |(method, path)| (path.trim(), method))
}

fn methods(of: &Value) -> impl Iterator<Item = ((&str, &str), Value)> {
    let methods = of["methods"].as_object().into_iter().flatten();
    methods.map(|(name, limits)| (method(name), throttle(&limits["throttle"])))
}

fn plan_of(id: &str, written: &Value) -> Value {
    let mut plan = json!({ "id": id, "name": id, "owner": "file", "apiStages": [] });
    for (member, name) in PLAN_MEMBERS {
        plan[name] = written[member].clone();
    }
    if let Some(written) = written.get("throttle") {
        plan["throttle"] = throttle(written);
    }
    if let Some(written) = written.get("quota") {
        plan["quota"] = quota(written);
    }
    for stage in written["api_stages"].as_array().into_iter().flatten() {
        let throttles =
            methods(stage).map(|((path, method), told)| (format!("{path}/{method}"), told));
        let throttles: Map<String, Value> = throttles.collect();
        let told = json!({ "apiId": stage["api"], "stage": stage["stage"], "throttle": throttles });
        plan["apiStages"].as_array_mut().into_iter().for_each(|stages| stages.push(told.clone()));
    }
    plan
}

fn stage_of(written: &Value) -> Value {
    let settings = methods(written).map(|((path, method), told)| {
        let path =
            if method == "*" { "*".into() } else { path.replace('~', "~0").replace('/', "~1") };
        let told = json!({
            "throttlingRateLimit": told["rateLimit"], "throttlingBurstLimit": told["burstLimit"],
        });
        (format!("{path}/{method}"), told)
    });
    let settings: Map<String, Value> = settings.collect();
    let mut stage = json!({
        "stageName": written["name"], "owner": "file", "methodSettings": settings,
        "consistency": written["consistency"],
    });
    if let Some(written) = written.get("throttle") {
        stage["throttle"] = throttle(written);
    }
    stage
}

/// A key as the API has it, but that the file knows no dates.
fn key_of(key: &ApiKey, overrides: Option<&Value>) -> Option<KeyRecord> {
    let end = key.expires_at.and_then(|end| i64::try_from(end.get()).ok());
    let end = end.and_then(|end| jiff::Timestamp::from_microsecond(end).ok());
    let record = json!({
        "id": &*key.id, "createdDate": 0, "lastUpdatedDate": 0, "sha256": "",
        "plans": key.plans.iter().map(|plan| &**plan).collect::<Vec<_>>(),
        "name": key.name, "enabled": key.enabled, "customerId": key.customer_id.as_deref(),
        "expiresAt": end.map(|end| end.to_string()),
        "overrides": overrides.map_or_else(|| json!({}), self::overrides),
    });
    match serde_json::from_value::<KeyRecord>(record) {
        Ok(mut record) => {
            record.filed = true;
            Some(record)
        }
        Err(error) => {
            tracing::error!(key = &*key.id, %error, "a key of the catalog file cannot be shown");
            None
        }
    }
}

/// A key's own sizes.
fn overrides(written: &Value) -> Value {
    let sizes = written.as_object().into_iter().flatten().map(|(plan, written)| {
        let mut sizes = written.clone();
        if let Some(written) = written.get("throttle") {
            sizes["throttle"] = throttle(written);
        }
        (plan.clone(), sizes)
    });
    Value::Object(sizes.collect())
}
