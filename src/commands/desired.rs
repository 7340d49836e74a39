//! A catalog file as the resources of the admin API, where the API can say the same.
//!
//! What it cannot say is an error that names the place: nothing is rounded, and nothing left out that
//! limits somebody. What only a catalog file can have, policies and keys without a value, is named.

use serde_json::{Map, Value, json};

use super::CommandError;
use crate::algorithm::Rate;
use crate::control::PLAN_MEMBERS;

/// What a file wants of the admin API.
pub(super) struct DesiredState {
    pub(super) stages: Vec<DesiredStage>,
    /// Usage plans as they are created, each with its id as the tag `_custom_id_`.
    pub(super) plans: Vec<Value>,
    /// API keys as they are created, and their plans.
    pub(super) keys: Vec<(Value, Vec<String>)>,
    /// What stays the catalog file's.
    pub(super) left_out: Vec<String>,
}

/// A stage, by the patch operations that make it of an empty one.
pub(super) struct DesiredStage {
    pub(super) api: String,
    pub(super) name: String,
    pub(super) operations: Vec<Value>,
}

type CommandResult<T> = Result<T, CommandError>;

fn unsupported<T>(at: &str, why: &str) -> CommandResult<T> {
    Err(CommandError::Unsupported(at.into(), why.into()))
}

/// An operation that sets what `path` names.
pub(super) fn set_operation(path: &str, value: &str) -> Value {
    json!({ "op": "replace", "path": path, "value": value })
}

/// A path of a patch with this segment keeps its slashes.
pub(super) fn escape_pointer(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

impl DesiredState {
    /// Reads a catalog that is valid.
    ///
    /// # Errors
    /// Where it says what the admin API cannot.
    pub(super) fn from_catalog(catalog: &Value) -> CommandResult<Self> {
        let mut desired = Self { stages: vec![], plans: vec![], keys: vec![], left_out: vec![] };
        for (at, api) in entries(catalog, "apis", "") {
            let id = text_member(api, "id", &at)?;
            for (at, stage) in entries(api, "stages", &format!("{at}.")) {
                desired.stages.push(convert_stage(&id, stage, &at)?);
            }
        }
        for (at, plan) in entries(catalog, "plans", "") {
            desired.plans.push(convert_plan(plan, &at)?);
        }
        for (at, key) in entries(catalog, "keys", "") {
            let id = text_member(key, "id", &at)?;
            if key.get("value").is_some() {
                desired.keys.push(convert_key(&id, key, &at)?);
            } else {
                desired.left_out.push(format!("key {id}: the API makes keys of their value only"));
            }
        }
        for (at, policy) in entries(catalog, "policies", "") {
            let name = text_member(policy, "name", &at)?;
            desired.left_out.push(format!("policy {name}: policies are in catalog files only"));
        }
        Ok(desired)
    }
}

/// The entries of a list, each with its place in the file.
fn entries<'v>(
    of: &'v Value,
    list: &'v str,
    at: &'v str,
) -> impl Iterator<Item = (String, &'v Value)> {
    let entries = of[list].as_array().into_iter().flatten().enumerate();
    entries.map(move |(index, entry)| (format!("{at}{list}[{index}]"), entry))
}

fn text_member(of: &Value, member: &str, at: &str) -> CommandResult<String> {
    match &of[member] {
        Value::String(text) => Ok(text.clone()),
        _ => unsupported(&format!("{at}.{member}"), "put it in quotes"),
    }
}

/// The members that are there, under the API's names.
fn rename_members<const N: usize>(of: &Value, names: [(&str, &str); N]) -> Map<String, Value> {
    let given = names.into_iter().filter(|(written, _)| !of[*written].is_null());
    given.map(|(written, name)| (name.to_owned(), of[written].clone())).collect()
}

/// A rate of whole seconds and a burst. The API has nothing but decimal numbers per second.
fn throttle(written: &Value, at: &str) -> CommandResult<(f64, u64)> {
    let burst = member(written, "burst").and_then(Value::as_u64);
    Ok((per_second(written, at)?, burst.unwrap_or_default()))
}

/// What a throttle says under either of a member's names.
fn member<'v>(written: &'v Value, name: &str) -> Option<&'v Value> {
    written.get(name).or_else(|| written.get(format!("{name}_limit")))
}

/// A rate as a decimal number per second.
fn per_second(written: &Value, at: &str) -> CommandResult<f64> {
    let rate = match member(written, "rate") {
        Some(Value::String(text)) if text.contains('/') => text.clone(),
        Some(Value::String(number)) => format!("{number}/s"),
        number => format!("{}/s", number.unwrap_or(&Value::Null)),
    };
    let (number, unit) = rate.split_once('/').unwrap_or_default();
    let seconds = match unit.trim() {
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => 1.0,
    };
    let per_second = number.trim().parse::<f64>().unwrap_or(0.0) / seconds;
    let same = rate.parse::<Rate>().is_ok_and(|rate| format!("{per_second}/s").parse() == Ok(rate));
    if same {
        return Ok(per_second);
    }
    let why = "the API has decimal numbers per second only; write such a one, or put it under the plan's `limits`";
    unsupported(&format!("{at}.rate"), why)
}

/// The operations that set a throttle under `path`.
fn set_throttle(path: &str, written: &Value, at: &str) -> CommandResult<[Value; 2]> {
    let (rate, burst) = throttle(written, at)?;
    Ok([
        set_operation(&format!("{path}/rateLimit"), &rate.to_string()),
        set_operation(&format!("{path}/burstLimit"), &burst.to_string()),
    ])
}

fn methods<'v>(of: &'v Value, at: &'v str) -> impl Iterator<Item = (String, &'v str, &'v Value)> {
    let methods = of["methods"].as_object().into_iter().flatten();
    methods.map(move |(name, method)| {
        (format!("{at}.methods[{name}].throttle"), &**name, &method["throttle"])
    })
}

fn convert_stage(api: &str, written: &Value, at: &str) -> CommandResult<DesiredStage> {
    let mut operations = Vec::new();
    if let Some(consistency) = written["consistency"].as_str() {
        operations.push(set_operation("/consistency", consistency));
    }
    if let Some(throttle) = written.get("throttle") {
        operations.extend(set_throttle("/throttle", throttle, &format!("{at}.throttle"))?);
    }
    for (at, name, throttle) in methods(written, at) {
        let path = match name.split_once(char::is_whitespace) {
            Some((method, path)) => format!("/{}/{method}/throttling", escape_pointer(path.trim())),
            None => "/*/*/throttling".to_owned(),
        };
        operations.extend(set_throttle(&path, throttle, &at)?);
    }
    Ok(DesiredStage { api: api.into(), name: text_member(written, "name", at)?, operations })
}

fn convert_plan(written: &Value, at: &str) -> CommandResult<Value> {
    let id = text_member(written, "id", at)?;
    let mut plan = rename_members(written, PLAN_MEMBERS);
    plan.insert("name".into(), id.clone().into());
    plan.insert("tags".into(), json!({ "_custom_id_": id }));
    if let Some(written) = written.get("throttle").filter(|throttle| !throttle.is_null()) {
        let (rate, burst) = throttle(written, &format!("{at}.throttle"))?;
        plan.insert("throttle".into(), json!({ "rateLimit": rate, "burstLimit": burst }));
    }
    if let Some(quota) = written.get("quota").filter(|quota| !quota.is_null()) {
        plan.insert("quota".into(), convert_quota(quota, &format!("{at}.quota"))?);
    }
    if written["api_stages"].as_array().is_some_and(Vec::is_empty) {
        return unsupported(&format!("{at}.api_stages"), "to the API an empty list is all stages");
    }
    let mut stages = Vec::new();
    for (at, stage) in entries(written, "api_stages", &format!("{at}.")) {
        let mut throttles = Map::new();
        for (at, name, written) in methods(stage, &at) {
            let Some((method, path)) = name.split_once(char::is_whitespace) else {
                return unsupported(&at, "a plan of the API names its methods");
            };
            let (rate, burst) = throttle(written, &at)?;
            let throttle = json!({ "rateLimit": rate, "burstLimit": burst });
            throttles.insert(format!("{}/{method}", path.trim()), throttle);
        }
        let (api, name) = (text_member(stage, "api", &at)?, text_member(stage, "stage", &at)?);
        stages.push(json!({ "apiId": api, "stage": name, "throttle": throttles }));
    }
    plan.insert("apiStages".into(), stages.into());
    Ok(plan.into())
}

fn convert_quota(written: &Value, at: &str) -> CommandResult<Value> {
    const WEEKDAYS: [&str; 7] =
        ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let start = &written["starts_on"];
    let start = start.as_str().map_or_else(|| start.to_string(), str::to_ascii_lowercase);
    let period = written["period"].as_str().unwrap_or_default();
    let offset = match (period, &*start) {
        ("week", "null") => Some(1),
        ("week", day) => WEEKDAYS.iter().position(|weekday| *weekday == day),
        (_, "null") => Some(0),
        (_, day) => day.parse::<usize>().ok().filter(|day| *day <= 28).map(|day| day - 1),
    };
    let Some(offset) = offset else {
        return unsupported(
            &format!("{at}.starts_on"),
            "months of the API begin on a day from 1 to 28",
        );
    };
    let mut quota = rename_members(written, [("limit", "limit"), ("time_zone", "timeZone")]);
    quota.insert("period".into(), period.to_uppercase().into());
    quota.insert("offset".into(), offset.into());
    Ok(quota.into())
}

fn convert_key(id: &str, written: &Value, at: &str) -> CommandResult<(Value, Vec<String>)> {
    let names = [("name", "name"), ("customer_id", "customerId"), ("expires_at", "expiresAt")];
    let mut key = rename_members(written, names);
    key.insert("value".into(), text_member(written, "value", at)?.into());
    key.insert("enabled".into(), (written["enabled"] != false).into());
    key.insert("tags".into(), json!({ "_custom_id_": id }));
    if let Some(overrides) = written["overrides"].as_object() {
        let sizes = overrides.iter().map(|(plan, sizes)| {
            Ok((plan.clone(), convert_overrides(sizes, &format!("{at}.overrides.{plan}"))?))
        });
        key.insert("overrides".into(), Value::Object(sizes.collect::<CommandResult<_>>()?));
    }
    let plans = written["plans"].as_array().into_iter().flatten();
    let plans = plans.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok((key.into(), plans))
}

/// A key's own sizes of one plan's limits.
fn convert_overrides(written: &Value, at: &str) -> CommandResult<Value> {
    let mut sizes = rename_members(written, [("quota", "quota"), ("limits", "limits")]);
    if let Some(written) = written.get("throttle").filter(|throttle| !throttle.is_null()) {
        let mut throttle = Map::new();
        if member(written, "rate").is_some() {
            let rate = per_second(written, &format!("{at}.throttle"))?;
            throttle.insert("rateLimit".into(), rate.into());
        }
        let burst = member(written, "burst").cloned();
        throttle.extend(burst.map(|burst| ("burstLimit".to_owned(), burst)));
        sizes.insert("throttle".into(), throttle.into());
    }
    Ok(sizes.into())
}
