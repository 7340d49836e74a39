//! A key's policies: judged with every check of the key, as if the request had named them.
//!
//! They are what teams and organisations are: several keys that name the same policy with the same
//! key share its counters. They are checked against the catalog when they are written. A policy
//! that the catalog has lost since, or that has come to count addresses where the key is none, is
//! ignored and logged: the catalog file cannot know the keys of the admin API.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::key_type::KeyType;
use super::raw::RawKeyPolicies;
use super::validation::Report;
use super::{ApiKey, Catalog, Policy};
use crate::limit::{MAX_CHARGES, Subject};

/// The most policies of a key. With the key itself and the stage they are eight subjects.
const MAX_KEY_POLICIES: usize = 6;

/// The largest size of the key that a policy counts, in bytes: as in a check.
pub(super) const MAX_KEY_BYTES: usize = 1024;

/// The policies of a key, each with the key that it counts, by the policies' names.
#[derive(Debug, Default)]
pub struct KeyPolicies {
    entries: Vec<KeyPolicy>,
    /// The revision of the catalog for which ignored policies have been logged.
    logged: ArcSwapOption<String>,
}

#[derive(Debug)]
struct KeyPolicy {
    policy: String,
    key: String,
    /// The subject if the policy counts texts.
    text_subject: Subject,
}

impl KeyPolicy {
    /// The subject that `policy` counts.
    ///
    /// # Errors
    /// If the key is not of the policy's type.
    fn subject(&self, policy: &Policy) -> Result<Subject, &'static str> {
        match policy.key_type {
            KeyType::Text => Ok(self.text_subject),
            KeyType::Ip { .. } => policy.subject(&self.policy, &self.key),
        }
    }

    /// The error if the policy is not counted in this catalog.
    fn mismatch(&self, catalog: &Catalog) -> Option<String> {
        let name = &self.policy;
        let Some(policy) = catalog.policies.get(&**name) else {
            return Some(format!(
                "policies.{name}: there is no policy `{name}`; declare it under `policies` of the catalog file"
            ));
        };
        self.subject(policy).err().map(|why| format!("policies.{name}: {why}"))
    }
}

impl KeyPolicies {
    /// Checks policies, except that a catalog has them.
    ///
    /// # Errors
    /// If they are not valid: every error with its path.
    pub fn new(raw: &RawKeyPolicies) -> Result<Self, Vec<String>> {
        let mut report = Report::default();
        let policies = Self::from_raw(raw, "policies", &mut report);
        let (errors, _) = report.into_messages();
        if errors.is_empty() { Ok(policies) } else { Err(errors) }
    }

    pub(super) fn from_raw(raw: &RawKeyPolicies, at: &str, report: &mut Report) -> Self {
        if raw.len() > MAX_KEY_POLICIES {
            report.error(
                at,
                format_args!(
                    "a key has at most {MAX_KEY_POLICIES} policies, and this one {}",
                    raw.len()
                ),
            );
        }
        let entry = |(policy, key): (&String, &String)| {
            if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
                report.error(
                    &format!("{at}.{policy}"),
                    "the key that a policy counts has 1 to 1024 bytes and no control characters",
                );
            }
            let text_subject = Subject::policy(policy, key);
            KeyPolicy { policy: policy.clone(), key: key.clone(), text_subject }
        };
        Self { entries: raw.iter().map(entry).collect(), logged: ArcSwapOption::empty() }
    }

    /// The policies as a catalog file has them.
    #[must_use]
    pub fn to_raw(&self) -> RawKeyPolicies {
        self.entries.iter().map(|entry| (entry.policy.clone(), entry.key.clone())).collect()
    }

    /// The names of the policies that a catalog does not have, or not for such a key, each with the
    /// error at its path.
    #[must_use]
    pub fn mismatches(&self, catalog: &Catalog) -> BTreeMap<&str, String> {
        let mismatch = |entry: &'_ KeyPolicy| entry.mismatch(catalog);
        self.entries.iter().filter_map(|entry| Some((&*entry.policy, mismatch(entry)?))).collect()
    }

    /// The error that a check of a key on these plans would be judged by too many limits.
    #[must_use]
    pub fn excess(&self, catalog: &Catalog, plans: &[impl AsRef<str>]) -> Option<String> {
        self.excess_beside(catalog, || catalog.most_charges(plans))
    }

    /// The same for a key whose plans have this many limits for a check.
    pub(super) fn excess_beside(
        &self,
        catalog: &Catalog,
        most_charges: impl FnOnce() -> usize,
    ) -> Option<String> {
        if self.entries.is_empty() {
            return None;
        }
        let own: usize = self.in_catalog(catalog).map(|(policy, _)| policy.limits.len()).sum();
        let total = own + most_charges();
        (total > MAX_CHARGES).then(|| {
            format!("a check of this key would be judged by up to {total} limits, {own} of them of its policies, and at most {MAX_CHARGES} are allowed")
        })
    }

    /// The key that is counted under the policy of this name.
    #[must_use]
    pub fn key_of(&self, policy: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.policy == policy).map(|entry| &*entry.key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if one of them is the policy of this name with this subject.
    pub(super) fn contains(&self, name: &str, policy: &Policy, subject: Subject) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.policy == name && entry.subject(policy) == Ok(subject))
    }

    /// The policies that the catalog has, each with the subject that it counts.
    fn in_catalog<'c>(&self, catalog: &'c Catalog) -> impl Iterator<Item = (&'c Policy, Subject)> {
        self.entries.iter().filter_map(|entry| {
            let policy = catalog.policies.get(&*entry.policy)?;
            Some((policy, entry.subject(policy).ok()?))
        })
    }
}

impl ApiKey {
    /// The policies that are judged with every check of the key, each with the subject that it
    /// counts.
    pub(super) fn own_policies<'c>(
        &self,
        catalog: &'c Catalog,
    ) -> impl Iterator<Item = (&'c Policy, Subject)> {
        let policies = &self.policies;
        let is_logged = || {
            policies.logged.load().as_ref().is_some_and(|revision| **revision == catalog.revision)
        };
        if !policies.entries.is_empty() && !is_logged() {
            for why in policies.mismatches(catalog).into_values() {
                tracing::warn!(key = &*self.id, why, "a policy of the key is ignored");
            }
            policies.logged.store(Some(Arc::new(catalog.revision.clone())));
        }
        policies.in_catalog(catalog)
    }
}
