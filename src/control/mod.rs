//! The control plane: what is declared, by the catalog file and by the API, and what is in use.
//!
//! Two doors to one catalog. What the API declares are resources in AWS API Gateway's members, held
//! by the registry; every node turns them, with its catalog file, into the catalog it serves by.
//! HTTP is not known here.

mod key_record;
mod audit;
mod key_directory;
mod document;
mod live_domains;
mod editor;
mod file_resources;
mod key_import;
mod keys;
mod live_catalog;
mod overrides;
mod patch;
mod rest_api;
mod key_rotation;
mod seal;
mod limit_settings;
mod stage;
mod registry_sync;
mod usage_ledger;
mod usage_plan;

use std::collections::BTreeMap;

pub use audit::ChangeOrigin;
pub use document::Document;
pub use editor::{Editor, EditorFactory};
pub use key_directory::{ClientKey, KeyDirectory, Lookup, RegistryQuery};
pub use key_import::ImportResult;
pub use key_record::{CreateKey, KeyRecord};
pub use key_rotation::RotateKey;
pub use live_catalog::{ConfigFileError, LiveCatalog, read_catalog};
pub use live_domains::{LiveDomains, read_domains};
pub use overrides::OverridesSpec;
pub use patch::Patch;
pub use registry_sync::RegistrySync;
pub use rest_api::{ApiSpec, Deployment, Resource, RestApi};
pub use seal::Seal;
pub use stage::{Stage, StageSpec};
pub use usage_ledger::{ReportedDay, UsageLedger, UsageQuery};
pub use usage_plan::{PLAN_MEMBERS, PlanSpec, UsagePlan};

use crate::store;
use crate::time::{Clock as _, SystemClock};

/// Why a resource was not read or changed; nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The request says what cannot be.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such resource.
    #[error("{0}")]
    NotFound(String),
    /// It is there already, is used, or belongs to the catalog file; or others change it at the
    /// same time, again and again.
    #[error("{0}")]
    Conflict(String),
    /// The registry cannot be reached.
    #[error("{0}")]
    Store(#[from] store::StoreError),
    /// The registry holds what this version cannot read.
    #[error("an entry of the registry cannot be read: {0}")]
    Corrupt(String),
}

impl ControlError {
    /// That a resource is the catalog file's: the API does not change it.
    #[must_use]
    pub fn owned_by_file(what: &str, id: &str) -> Self {
        Self::Conflict(format!("the {what} {id} is declared in the catalog file: change it there"))
    }

    /// That there is no such resource, in AWS' words.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::NotFound(format!("Invalid {what} identifier specified"))
    }
}

/// Seconds since 1970.
fn now_secs() -> u64 {
    SystemClock.now().get() / 1_000_000
}

/// So many random letters and digits.
fn random_alphanumeric(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(length);
    let mut random = [0; 64];
    while id.len() < length {
        getrandom::fill(&mut random).unwrap_or_else(|error| unreachable!("no randomness: {error}"));
        // 252 is a multiple of 36: no character is likelier than another.
        let letters = random.iter().filter(|&&byte| byte < 252);
        let letters = letters.map(|&byte| char::from(ALPHABET[usize::from(byte % 36)]));
        id.extend(letters.take(length - id.len()));
    }
    id
}

/// The id of a new resource: made, or chosen by the tag `_custom_id_`.
fn new_id(tags: &BTreeMap<String, String>) -> Result<String, ControlError> {
    let Some(id) = tags.get("_custom_id_") else { return Ok(random_alphanumeric(10)) };
    if !crate::catalog::is_valid_name(id) {
        let why = "an id has 1 to 64 of the characters A-Z a-z 0-9 . _ -";
        return Err(ControlError::BadRequest(format!("tags._custom_id_: {why}")));
    }
    Ok(id.clone())
}
