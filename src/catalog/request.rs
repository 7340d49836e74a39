//! What a check asks for, as the catalog understands it.

use std::borrow::Cow;

use smallvec::SmallVec;

/// What a check asks for; lengths and characters are sound, names may not be.
pub struct CheckRequest<'a> {
    /// The API that is called.
    pub api: Option<&'a str>,
    /// Its stage.
    pub stage: Option<&'a str>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// The path as the client sent it.
    pub path: Option<&'a str>,
    /// Policies, and whom each counts.
    pub policies: SmallVec<[PolicyKey<'a>; 1]>,
    /// What it costs.
    pub cost: Cost<'a>,
}

/// A policy and whom it counts.
#[derive(Clone, Copy)]
pub struct PolicyKey<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// Whom it counts: an address, a user.
    pub key: &'a str,
    /// Its place in `policies`; `None` where it is named by `policy` and `key` themselves.
    pub index: Option<usize>,
}

impl PolicyKey<'_> {
    pub(super) fn field(&self, member: &str) -> String {
        self.index.map_or_else(|| member.to_owned(), |index| format!("policies[{index}].{member}"))
    }
}

/// What a check costs.
#[derive(Clone)]
pub enum Cost<'a> {
    /// So many requests.
    Requests(u64),
    /// So much of each unit; one request where `requests` is not among them.
    Units(SmallVec<[(Cow<'a, str>, u64); 2]>),
}

impl Cost<'_> {
    pub(super) fn for_unit(&self, unit: &str) -> u64 {
        let is_requests = unit == crate::limit::Unit::BUILT_IN[0];
        match self {
            Self::Requests(number) => {
                if is_requests {
                    *number
                } else {
                    0
                }
            }
            Self::Units(units) => units
                .iter()
                .find(|(name, _)| name == unit)
                .map_or(u64::from(is_requests), |&(_, number)| number),
        }
    }
}
