//! The request of a recorded check: all that a catalog needs to resolve it again.
//!
//! The value of an API key is never in it. Keys of policies and paths are what clients sent, so a
//! setting leaves requests out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::{CheckRequest, Cost, CostView, PolicyKey, RequestView};
use crate::inference::TokenUsage;

/// The request of a recorded check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// Id of the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Box<str>>,
    /// Id of the plan that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<str>>,
    /// Id of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Box<str>>,
    /// Name of the API's stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Box<str>>,
    /// The HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Box<str>>,
    /// The path of the client's request, not normalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// Policies that the request names, each with the key that it counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<RecordedPolicyKey>,
    /// The cost.
    pub cost: RecordedCost,
    /// The name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
    /// The tokens that were requested, or were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// True for a report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_the_fact: bool,
}

/// A policy and the key that it counts, as a request names them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPolicyKey {
    /// The policy's name.
    pub policy: Box<str>,
    /// The key: an address, a user.
    pub key: Box<str>,
}

/// The cost of a recorded check, as in its request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RecordedCost {
    /// A number of requests.
    Requests(u64),
    /// An amount of each unit.
    Units(BTreeMap<Box<str>, u64>),
}

impl RecordedRequest {
    /// The request of a check of this API key, to which this plan was applied.
    pub(super) fn new(view: RequestView<'_>, key_id: Option<&str>, plan: Option<&str>) -> Self {
        let text = |text: Option<&str>| text.map(Box::from);
        let policy = |entry: &PolicyKey<'_>| RecordedPolicyKey {
            policy: entry.policy.into(),
            key: entry.key.into(),
        };
        Self {
            key_id: text(key_id),
            plan: text(plan),
            api: text(view.api),
            stage: text(view.stage),
            method: text(view.method),
            path: text(view.path),
            policies: view.policies.iter().map(policy).collect(),
            cost: match view.cost {
                CostView::Requests(number) => RecordedCost::Requests(number),
                CostView::Units(units) => RecordedCost::Units(
                    units.iter().map(|(unit, amount)| (Box::from(&**unit), *amount)).collect(),
                ),
            },
            model: text(view.model),
            usage: view.usage.copied(),
            after_the_fact: view.after_the_fact,
        }
    }

    /// The request in the catalog's terms.
    pub(super) fn to_check_request(&self) -> CheckRequest<'_> {
        let policies = self.policies.iter().enumerate();
        let policies = policies.map(|(index, entry)| PolicyKey {
            policy: &entry.policy,
            key: &entry.key,
            index: Some(index),
        });
        CheckRequest {
            api: self.api.as_deref(),
            stage: self.stage.as_deref(),
            method: self.method.as_deref(),
            path: self.path.as_deref(),
            policies: policies.collect(),
            cost: match &self.cost {
                RecordedCost::Requests(number) => Cost::Requests(*number),
                RecordedCost::Units(units) => Cost::Units(
                    units.iter().map(|(unit, amount)| (Cow::Borrowed(&**unit), *amount)).collect(),
                ),
            },
            after_the_fact: self.after_the_fact,
            model: self.model.as_deref(),
            usage: self.usage.as_ref(),
        }
    }
}
