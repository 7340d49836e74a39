//! A check request in the catalog's terms.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::inference::TokenUsage;
use crate::limit::Unit;

/// A check request. Lengths and characters have been validated, names have not.
pub struct CheckRequest<'a> {
    /// Id of the API.
    pub api: Option<&'a str>,
    /// Name of the API's stage.
    pub stage: Option<&'a str>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// The path of the client's request, not normalized.
    pub path: Option<&'a str>,
    /// Policies, each with the key that it counts.
    pub policies: SmallVec<[PolicyKey<'a>; 1]>,
    /// The cost.
    pub cost: Cost<'a>,
    /// True if the cost has been used already: it is charged in any case (a report).
    pub after_the_fact: bool,
    /// The name of the model that the request is for.
    pub model: Option<&'a str>,
    /// The tokens that are requested, or were used. They are costs in all units that follow from
    /// tokens, unless `cost` names the unit.
    pub usage: Option<&'a TokenUsage>,
}

/// A check request as observers of its decision see it.
#[derive(Clone, Copy)]
pub struct RequestView<'r> {
    /// Id of the API.
    pub api: Option<&'r str>,
    /// Name of the API's stage.
    pub stage: Option<&'r str>,
    /// The HTTP method.
    pub method: Option<&'r str>,
    /// The path of the client's request, not normalized.
    pub path: Option<&'r str>,
    /// Policies, each with the key that it counts.
    pub policies: &'r [PolicyKey<'r>],
    /// The cost.
    pub cost: CostView<'r>,
    /// True for a report.
    pub after_the_fact: bool,
    /// The name of the model.
    pub model: Option<&'r str>,
    /// The tokens that are requested, or were used.
    pub usage: Option<&'r TokenUsage>,
}

/// The cost of a check request as observers see it; see [`Cost`].
#[derive(Clone, Copy)]
pub enum CostView<'r> {
    /// A number of requests.
    Requests(u64),
    /// An amount of each unit.
    Units(&'r [(Cow<'r, str>, u64)]),
}

impl CheckRequest<'_> {
    /// The request as observers of the decision see it.
    #[must_use]
    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            api: self.api,
            stage: self.stage,
            method: self.method,
            path: self.path,
            policies: &self.policies,
            cost: match &self.cost {
                Cost::Requests(number) => CostView::Requests(*number),
                Cost::Units(units) => CostView::Units(units),
            },
            after_the_fact: self.after_the_fact,
            model: self.model,
            usage: self.usage,
        }
    }
}

/// A policy and the key that it counts.
#[derive(Clone, Copy)]
pub struct PolicyKey<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The key: an address, a user.
    pub key: &'a str,
    /// Index in the request's `policies`; `None` if the request has the members `policy` and `key`.
    pub index: Option<usize>,
}

impl PolicyKey<'_> {
    pub(super) fn field(&self, member: &str) -> String {
        self.index.map_or_else(|| member.to_owned(), |index| format!("policies[{index}].{member}"))
    }
}

/// The cost of a check request.
#[derive(Clone)]
pub enum Cost<'a> {
    /// A number of requests.
    Requests(u64),
    /// An amount of each unit; of `requests` one, if it is not among them.
    Units(SmallVec<[(Cow<'a, str>, u64); 2]>),
}

impl Cost<'_> {
    /// The same cost without borrowed names.
    #[must_use]
    pub fn into_owned(self) -> Cost<'static> {
        match self {
            Self::Requests(number) => Cost::Requests(number),
            Self::Units(units) => {
                let owned =
                    |(unit, amount): (Cow<'_, str>, u64)| (unit.into_owned().into(), amount);
                Cost::Units(units.into_iter().map(owned).collect())
            }
        }
    }

    pub(super) fn for_unit(&self, unit: &str) -> u64 {
        self.named(unit).unwrap_or_else(|| u64::from(unit == Unit::REQUESTS))
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.for_unit(Unit::REQUESTS)
    }

    /// The amount of a unit that the cost names.
    #[must_use]
    pub fn named(&self, unit: &str) -> Option<u64> {
        match self {
            Self::Requests(number) => (unit == Unit::REQUESTS).then_some(*number),
            Self::Units(units) => {
                units.iter().find(|(name, _)| name == unit).map(|&(_, number)| number)
            }
        }
    }
}
