//! The entries of the catalog file itself, for the admin API, which lists them beside its own.
//!
//! Of API keys only the overrides are here: their values are not kept.

use std::collections::BTreeMap;

use super::raw::{RawApi, RawCatalog, RawOverrides, RawPlan};

/// The entries of a catalog file by their ids.
#[derive(Default)]
pub struct FileOwned {
    /// The time at which the file was changed, in seconds since 1970; 0 if that is not known.
    pub changed: u64,
    /// APIs with their stages.
    pub apis: BTreeMap<String, RawApi>,
    /// Usage plans.
    pub plans: BTreeMap<String, RawPlan>,
    /// The overrides of API keys that have any.
    pub overrides: BTreeMap<String, RawOverrides>,
}

impl FileOwned {
    pub(super) fn from_raw(raw: &RawCatalog) -> Self {
        let keys = raw.keys.iter().filter(|key| !key.overrides.is_empty());
        Self {
            changed: 0,
            apis: raw.apis.iter().map(|api| (api.id.clone(), api.clone())).collect(),
            plans: raw.plans.iter().map(|plan| (plan.id.clone(), plan.clone())).collect(),
            overrides: keys.map(|key| (key.id.clone(), key.overrides.clone())).collect(),
        }
    }
}
