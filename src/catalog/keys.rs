//! API keys: validated, with the digest of their value. The value itself is dropped.

use std::sync::Arc;

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
}

/// The largest size of a key's value, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

pub(super) fn add_key(catalog: &mut Catalog, raw: &RawKey, at: &str, report: &mut Report) {
    let id = report.check_name(&format!("{at}.id"), &raw.id);
    let digest = parse_digest(raw, at, report);
    let expires_at = raw.expires_at.as_deref().and_then(|text| parse_expiry(text, at, report));
    let plans = resolve_plans(catalog, &raw.plans, at, report);
    let overrides =
        LimitOverrides::from_raw(raw.overrides.clone(), &format!("{at}.overrides"), report);
    let at_override = |plan: &str| format!("{at}.overrides.{plan}");
    for plan in overrides.plans().filter(|plan| !plans.iter().any(|id| **id == **plan)) {
        report.error(&at_override(plan), "the key is not on this plan");
    }
    overrides.check_against(catalog, &format!("{at}.overrides"), report);
    let policies = read_policies(catalog, raw, &plans, at, report);
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
    plans: &[Arc<str>],
    at: &str,
    report: &mut Report,
) -> KeyPolicies {
    let policies = KeyPolicies::from_raw(&raw.policies, &format!("{at}.policies"), report);
    report.errors.extend(policies.mismatches(catalog).values().map(|why| format!("{at}.{why}")));
    if let Some(why) = policies.excess(catalog, plans) {
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

/// The plans of a key. Two plans that serve the same stage are an error, unless one is `alongside`:
/// it would be ambiguous which one applies.
fn resolve_plans(
    catalog: &Catalog,
    plan_ids: &[String],
    at: &str,
    report: &mut Report,
) -> Vec<Arc<str>> {
    let at = format!("{at}.plans");
    if plan_ids.is_empty() {
        report.warning(&at, "a key without a plan is refused everywhere");
    }
    let mut plans: Vec<Arc<str>> = Vec::new();
    for id in plan_ids {
        let Some((id, plan)) = catalog.plans.get_key_value(&**id) else {
            report.error(&at, format_args!("there is no plan `{id}`; declare it under `plans`"));
            continue;
        };
        for other in &plans {
            let other_plan = &catalog.plans[other];
            let both = catalog
                .shared_stage(plan, other_plan)
                .filter(|_| !plan.alongside && !other_plan.alongside);
            if other == id {
                report.error(&at, format_args!("the plan `{id}` is there twice; keep one"));
            } else if let Some((api, stage)) = both {
                report.error(&at, format_args!("the plans `{other}` and `{id}` both serve {api}/{stage}; a key may have one plan for a stage, and further ones with `alongside: true`"));
            }
        }
        plans.push(Arc::clone(id));
    }
    plans
}
