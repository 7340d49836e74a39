//! Policies as operators see them: their names and limits, and the counters of one key.
//!
//! The limits of a check are found by `resolve`.

use std::sync::Arc;

use super::Catalog;
use super::key_policies::MAX_KEY_BYTES;
use super::key_type::KeyType;
use crate::limit::{Limit, Subject};

/// A policy of the catalog.
pub struct PolicyView<'c> {
    /// Its name.
    pub name: &'c str,
    /// True if it counts IP addresses (`key_type: ip`).
    pub counts_addresses: bool,
    /// Its limits, in the order of the catalog.
    pub limits: &'c [Arc<Limit>],
}

/// A key of a policy.
pub struct CountedKey<'c> {
    /// The spelling under which it is counted.
    pub key: String,
    /// The owner of its counters.
    pub subject: Subject,
    /// The policy's limits, in the order of the catalog.
    pub limits: &'c [Arc<Limit>],
}

impl Catalog {
    /// All policies, in no order.
    pub fn policies(&self) -> impl Iterator<Item = PolicyView<'_>> {
        self.policies.iter().map(|(name, policy)| PolicyView {
            name,
            counts_addresses: policy.key_type != KeyType::Text,
            limits: &policy.limits,
        })
    }

    /// A key of a policy, spelled as a check may spell it. `None` if there is no such policy.
    ///
    /// # Errors
    /// If a check with this key would be refused as invalid.
    pub fn policy_key(
        &self,
        policy: &str,
        key: &str,
    ) -> Option<Result<CountedKey<'_>, &'static str>> {
        let found = self.policies.get(policy)?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
            return Some(Err("write 1 to 1024 bytes without control characters"));
        }
        Some(found.key_type.normalize(key).map(|key| {
            let subject = Subject::policy(policy, &key);
            CountedKey { key: key.into_owned(), subject, limits: &found.limits }
        }))
    }
}
