//! What the catalog's text itself declares, as it writes it, for whoever lists it beside what was
//! declared elsewhere. No key is in it but its overrides: values are read and gone.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::written::WrittenCatalog;

/// The text's entries by their ids; what is not said is absent.
#[derive(Default)]
pub struct Filed {
    /// APIs with their stages.
    pub apis: BTreeMap<String, Value>,
    /// Usage plans.
    pub plans: BTreeMap<String, Value>,
    /// What keys have instead of their plans' sizes, where they have.
    pub overrides: BTreeMap<String, Value>,
}

impl Filed {
    pub(super) fn of(written: &WrittenCatalog) -> Self {
        let keys = written.keys.iter().filter(|key| !key.overrides.is_empty());
        Self {
            apis: written.apis.iter().map(|api| (api.id.clone(), told(api))).collect(),
            plans: written.plans.iter().map(|plan| (plan.id.clone(), told(plan))).collect(),
            overrides: keys.map(|key| (key.id.clone(), told(&key.overrides))).collect(),
        }
    }
}

fn told(written: &impl Serialize) -> Value {
    let mut told = serde_json::to_value(written).unwrap_or_default();
    forget_nothings(&mut told);
    told
}

fn forget_nothings(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(forget_nothings);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_nothings),
        _ => {}
    }
}
