//! The control plane: what is declared, by the catalog file and by the API, and what is in use.
//!
//! Two doors to one catalog. What the API declares are resources in AWS API Gateway's members, held
//! by the registry; every node turns them, with its catalog file, into the catalog it serves by.
//! HTTP is not known here.

mod api_key;
mod audit;
mod directory;
mod document;
mod domains;
mod editor;
mod filed;
mod import;
mod keys;
mod live;
mod overrides;
mod patch;
mod rest_api;
mod rotate;
mod seal;
mod settings;
mod stage;
mod sync;
mod usage;
mod usage_plan;

use std::collections::BTreeMap;

pub use api_key::{KeyRecord, WantedKey};
pub use audit::Origin;
pub use directory::{Client, Directory, Found, Question};
pub use document::Document;
pub use domains::{LiveDomains, read as read_domains};
pub use editor::{Editor, Editors};
pub use import::Imported;
pub use live::{Live, Unusable, read as read_catalog};
pub use overrides::Overrides;
pub use patch::Patch;
pub use rest_api::{Deployment, Resource, RestApi, WantedApi};
pub use rotate::Rotation;
pub use seal::Seal;
pub use stage::{Stage, WantedStage};
pub use sync::Sync;
pub use usage::{Ledger, Line, Wanted as WantedUsage};
pub use usage_plan::{PLAN_MEMBERS, UsagePlan, WantedPlan};

use crate::store;
use crate::time::{Clock as _, SystemClock};

/// Why a resource was not read or changed; nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    Store(#[from] store::Error),
    /// The registry holds what this version cannot read.
    #[error("an entry of the registry cannot be read: {0}")]
    Corrupt(String),
}

impl Error {
    /// That a resource is the catalog file's: the API does not change it.
    #[must_use]
    pub fn filed(what: &str, id: &str) -> Self {
        Self::Conflict(format!("the {what} {id} is declared in the catalog file: change it there"))
    }

    /// That there is no such resource, in AWS' words.
    #[must_use]
    pub fn no(what: &str) -> Self {
        Self::NotFound(format!("Invalid {what} identifier specified"))
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemClock.now().get() / 1_000_000
}

/// So many random letters and digits.
fn fresh_id(length: usize) -> String {
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
fn new_id(tags: &BTreeMap<String, String>) -> Result<String, Error> {
    let Some(id) = tags.get("_custom_id_") else { return Ok(fresh_id(10)) };
    if !crate::catalog::is_valid_name(id) {
        let why = "an id has 1 to 64 of the characters A-Z a-z 0-9 . _ -";
        return Err(Error::BadRequest(format!("tags._custom_id_: {why}")));
    }
    Ok(id.clone())
}
