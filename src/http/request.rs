//! The JSON body of a check: names, types and lengths of its members.
//!
//! The catalog is not known here. An error names the member at fault.

use serde::Deserialize;
use smallvec::SmallVec;

use super::reservations::ReservationBody;
use super::values::{CostBody, Text};
use crate::catalog::{CheckRequest, PolicyKey};
use crate::control::ClientKey;
use crate::engine::ReservationRequest;
use crate::inference::{MAX_ESTIMATE, ProviderUsage};
use crate::limit::ModelPattern;
use crate::object::Object;
use crate::syntax::plain_message;
use crate::transport::Problem;

/// The longest key in bytes.
pub(super) const MAX_KEY_BYTES: usize = 1024;
/// The longest path in bytes.
pub(super) const MAX_PATH_BYTES: usize = 2048;

/// The request body of `/check`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody<'a> {
    #[serde(borrow, default)]
    api_key: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    key_id: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    api: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    stage: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    method: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    path: Option<Text<'a, MAX_PATH_BYTES>>,
    #[serde(borrow, default)]
    policy: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    key: Option<Text<'a, MAX_KEY_BYTES>>,
    #[serde(borrow, default)]
    policies: Vec<Object<PolicyBody<'a>>>,
    #[serde(borrow, default)]
    cost: CostBody<'a>,
    #[serde(default)]
    after_the_fact: Option<bool>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    model: Option<Text<'a, { ModelPattern::MAX_BYTES }>>,
    // Boxed, so that checks without them stay small.
    #[serde(default)]
    usage: Option<Box<ProviderUsage<MAX_ESTIMATE>>>,
    #[serde(borrow, default)]
    reservation: Option<Box<Object<ReservationBody<'a>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyBody<'a> {
    #[serde(borrow)]
    policy: Text<'a, MAX_KEY_BYTES>,
    #[serde(borrow)]
    key: Text<'a, MAX_KEY_BYTES>,
}

impl<'a> CheckBody<'a> {
    /// Parses the JSON body of one check.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let parsed = serde_json::from_slice::<Object<Self>>(body);
        parsed.map(|Object(request)| request).map_err(|_| parse_problem::<Object<Self>>(body))
    }

    /// True if the request is for a reservation, or for a dry run.
    pub(super) fn is_special(&self) -> bool {
        self.reservation.is_some() || self.is_dry_run()
    }

    /// True if nothing is to be charged or opened.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }

    /// The reservation that is requested.
    ///
    /// # Errors
    /// If a check like this one cannot be reserved.
    pub(super) fn to_reservation(&self) -> Result<Option<ReservationRequest<'_>>, Problem> {
        let Some(Object(reservation)) = self.reservation.as_deref() else { return Ok(None) };
        if self.after_the_fact == Some(true) {
            let detail = "a report is charged at once, so there is nothing to reserve";
            return Err(Problem::bad_request("after_the_fact", detail));
        }
        self.cost.refuse_over(MAX_ESTIMATE)?;
        Ok(Some(reservation.to_request()))
    }

    /// The client and its check request. `key_id_allowed` is true if the caller may name an API key
    /// by its id.
    pub(super) fn to_check_request(
        &self,
        key_id_allowed: bool,
    ) -> Result<(Option<ClientKey<'_>>, CheckRequest<'_>), Problem> {
        let client = match (&self.api_key, &self.key_id) {
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request(
                    "key_id",
                    "give either api_key or key_id, not both",
                ));
            }
            (Some(secret), None) => Some(ClientKey::Secret(&secret.0)),
            (None, Some(_)) if !key_id_allowed => {
                return Err(Problem::forbidden(
                    "key_id is only accepted from callers with the token of --check-token or from --trusted-peers; send api_key",
                ));
            }
            (None, Some(id)) => Some(ClientKey::Id(&id.0)),
            (None, None) => None,
        };
        let mut policies = SmallVec::new();
        match (&self.policy, &self.key) {
            (Some(policy), Some(key)) => {
                policies.push(PolicyKey { policy: &policy.0, key: &key.0, index: None });
            }
            (Some(_), None) => {
                return Err(Problem::bad_request("key", "a policy needs the key to count by"));
            }
            (None, Some(_)) => {
                return Err(Problem::bad_request(
                    "policy",
                    "a key needs the policy to judge it by; an API key goes into api_key",
                ));
            }
            (None, None) => {}
        }
        for (index, Object(entry)) in self.policies.iter().enumerate() {
            policies.push(PolicyKey {
                policy: &entry.policy.0,
                key: &entry.key.0,
                index: Some(index),
            });
        }
        let request = CheckRequest {
            api: self.api.as_ref().map(Text::as_str),
            stage: self.stage.as_ref().map(Text::as_str),
            method: self.method.as_ref().map(Text::as_str),
            path: self.path.as_ref().map(Text::as_str),
            policies,
            cost: self.cost.as_cost(),
            after_the_fact: self.after_the_fact.unwrap_or(false),
            model: self.model.as_ref().map(Text::as_str),
            usage: self.usage.as_deref().map(|ProviderUsage(usage)| usage),
        };
        Ok((client, request))
    }
}

/// The problem with a body that is not a valid `T`. The field is searched only after a failure,
/// because that takes time.
pub(super) fn parse_problem<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Problem::bad_request("body", "there is more after the end of the JSON object");
    };
    let member = named_member(error.inner());
    let field = match (error.path().to_string(), member) {
        (path, member) if path == "." || path.is_empty() => member.map_or("body".into(), |it| it.0),
        (path, Some((member, DUPLICATE))) => format!("{path}.{member}"),
        (path, _) => path,
    };
    let inner = error.into_inner();
    let detail = if inner.is_data() { plain_message(inner) } else { format!("not JSON: {inner}") };
    Problem::bad_request(field, detail)
}

const DUPLICATE: &str = "duplicate field `";

/// The member that serde reports as missing, unknown or there twice at its parent, and the start of
/// its message: the name is nowhere else.
fn named_member(error: &serde_json::Error) -> Option<(String, &'static str)> {
    let message = error.to_string();
    ["unknown field `", "missing field `", DUPLICATE].into_iter().find_map(|start| {
        let member = message.strip_prefix(start)?.split('`').next()?;
        Some((member.to_owned(), start))
    })
}
