//! What the catalog's text itself declares, as it writes it, for whoever lists it beside what was
//! declared elsewhere. No key is in it but its overrides: values are read and gone.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::raw::RawCatalog;

/// The text's entries by their ids; what is not said is absent.
#[derive(Default)]
pub struct FileOwned {
    /// APIs with their stages.
    pub apis: BTreeMap<String, Value>,
    /// Usage plans.
    pub plans: BTreeMap<String, Value>,
    /// What keys have instead of their plans' sizes, where they have.
    pub overrides: BTreeMap<String, Value>,
}

impl FileOwned {
    pub(super) fn from_raw(raw: &RawCatalog) -> Self {
        let keys = raw.keys.iter().filter(|key| !key.overrides.is_empty());
        Self {
            apis: raw.apis.iter().map(|api| (api.id.clone(), to_json(api))).collect(),
            plans: raw.plans.iter().map(|plan| (plan.id.clone(), to_json(plan))).collect(),
            overrides: keys.map(|key| (key.id.clone(), to_json(&key.overrides))).collect(),
        }
    }
}

fn to_json(raw: &impl Serialize) -> Value {
    let mut json = serde_json::to_value(raw).unwrap_or_default();
    remove_nulls(&mut json);
    json
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}
