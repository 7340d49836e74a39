//! API keys: validated, with the digest of their value. The value itself is dropped.

use std::sync::Arc;

use super::bounds::{MAX_KEY_PLANS, check_count};
use super::plan_sets::PlanSets;
use super::raw::RawKey;
use super::validation::Report;
use super::{Catalog, KeyPolicies, LimitOverrides};
use crate::digest::{SecretDigest, decode_hex, digest_secret};
use crate::limit::Subject;
use crate::time::Micros;

/// An API key. Its secret value is not kept.
#[derive(Debug)]
pub struct ApiKey {
    /// Id, which responses, logs and counters use.
    pub id: Arc<str>,
    /// Name for people.
    pub name: Option<String>,
    /// The operator's own id of the customer.
    pub customer_id: Option<Arc<str>>,
    /// False if every check with the key is refused.
    pub enabled: bool,
    /// Time from which on every check with the key is refused.
    pub expires_at: Option<Micros>,
    /// Ids of the key's plans. Those of plans that do not exist are ignored.
    pub plans: Vec<Arc<str>>,
    /// The key's own sizes of its plans' limits.
    pub overrides: LimitOverrides,
    /// The policies that are judged with every check of the key.
    pub policies: KeyPolicies,
    /// The subject of the key's counters.
    pub subject: Subject,
}

impl ApiKey {
    /// An enabled key without plans.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            name: None,
            customer_id: None,
            enabled: true,
            expires_at: None,
            plans: Vec::new(),
            overrides: LimitOverrides::default(),
            policies: KeyPolicies::default(),
            subject: Subject::api_key(id),
        }
    }

    /// True if it is on this plan.
    #[must_use]
    pub fn is_on(&self, plan: &str) -> bool {
        self.plans.iter().any(|on| **on == *plan)
    }
}

/// The largest size of a key's value, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// Adds a key to the catalog, which has all plans and policies already.
pub(super) fn add_key(
    catalog: &mut Catalog,
    plan_sets: &mut PlanSets,
    raw: &RawKey,
    at: &str,
    report: &mut Report,
) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let digest = parse_digest(raw, at, report);
    let expires_at = raw.expires_at.as_deref().and_then(|text| parse_expiry(text, at, report));
    let plans = resolve_plans(catalog, plan_sets, &raw.plans, at, report);
    let overrides =
        LimitOverrides::from_raw(raw.overrides.clone(), &format!("{at}.overrides"), report);
    let at_override = |plan: &str| format!("{at}.overrides.{plan}");
    for plan in overrides.plans().filter(|plan| !plans.iter().any(|id| **id == **plan)) {
        report.error(&at_override(plan), "the key is not on this plan");
    }
    overrides.check_against(catalog, &format!("{at}.overrides"), report);
    let most_charges = || plan_sets.get(catalog, &plans).most_charges;
    let policies = read_policies(catalog, raw, most_charges, at, report);
    let customer_id = raw.customer_id.as_deref().map(Arc::from);
    if customer_id
        .as_deref()
        .is_some_and(|id: &str| id.len() > 256 || id.chars().any(char::is_control))
    {
        report
            .error(&format!("{at}.customer_id"), "has at most 256 bytes and no control characters");
    }
    let key = Arc::new(ApiKey {
        name: raw.name.clone(),
        customer_id,
        enabled: raw.enabled,
        expires_at,
        plans,
        overrides,
        policies,
        ..ApiKey::new(&id)
    });
    if catalog.keys_by_id.insert(Arc::clone(&id), Arc::clone(&key)).is_some() {
        report
            .error(&format!("{at}.id"), format_args!("the key `{id}` is there twice; rename one"));
    }
    if let Some(other) = digest.and_then(|digest| catalog.keys_by_digest.insert(digest, key)) {
        report.error(
            at,
            format_args!("the keys `{}` and `{id}` have the same value; change one", other.id),
        );
    }
}

fn read_policies(
    catalog: &Catalog,
    raw: &RawKey,
    most_charges: impl FnOnce() -> usize,
    at: &str,
    report: &mut Report,
) -> KeyPolicies {
    let policies = KeyPolicies::from_raw(&raw.policies, &format!("{at}.policies"), report);
    report.errors_below(at, policies.mismatches(catalog).into_values());
    if let Some(why) = policies.excess_beside(catalog, most_charges) {
        report.error(&format!("{at}.policies"), why);
    }
    policies
}

fn parse_digest(raw: &RawKey, at: &str, report: &mut Report) -> Option<SecretDigest> {
    match (&raw.value, &raw.value_sha256) {
        (Some(value), None) => {
            if value.is_empty()
                || value.len() > MAX_VALUE_BYTES
                || value.chars().any(char::is_control)
            {
                report.error(
                    &format!("{at}.value"),
                    "a key's value has 1 to 1024 bytes and no control characters",
                );
            }
            Some(digest_secret(value))
        }
        (None, Some(hex)) => {
            let bytes = decode_hex(hex);
            if bytes.is_none() {
                report.error(
                    &format!("{at}.value_sha256"),
                    "a SHA-256 has 64 hexadecimal digits; `printf %s KEY | sha256sum` prints them",
                );
            }
            bytes
        }
        _ => {
            report.error(at, "a key needs either its `value` or its `value_sha256`");
            None
        }
    }
}

/// Reads a time with its zone (RFC 3339), not before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Micros> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(time.as_microsecond()).ok().map(Micros::new)
}

fn parse_expiry(text: &str, at: &str, report: &mut Report) -> Option<Micros> {
    let micros = parse_rfc3339(text);
    if micros.is_none() {
        report.error(
            &format!("{at}.expires_at"),
            "write a time with its zone, such as 2027-01-31T00:00:00Z",
        );
    }
    micros
}

/// The plans of a key.
fn resolve_plans(
    catalog: &Catalog,
    plan_sets: &mut PlanSets,
    plan_ids: &[String],
    at: &str,
    report: &mut Report,
) -> Vec<Arc<str>> {
    let at = format!("{at}.plans");
    if plan_ids.is_empty() {
        report.warning(&at, "a key without a plan is refused everywhere");
    }
    if !check_count(&at, plan_ids.len(), MAX_KEY_PLANS, report) {
        return Vec::new();
    }
    let mut plans: Vec<Arc<str>> = Vec::new();
    for id in plan_ids {
        if let Some((id, _)) = catalog.plans.get_key_value(&**id) {
            plans.push(Arc::clone(id));
        } else {
            report.error(&at, format_args!("there is no plan `{id}`; declare it under `plans`"));
        }
    }
    for conflict in &plan_sets.get(catalog, &plans).conflicts {
        report.error(&at, conflict);
    }
    plans
}
