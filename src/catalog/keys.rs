//! API keys, as written to as valid: a value becomes its digest, and is gone.

use std::sync::Arc;

use sha2::Sha256;

use super::findings::Findings;
use super::written::WrittenKey;
use super::{ApiKey, Catalog, Overrides};
use crate::time::Micros;

/// The SHA-256 of a secret: all that is kept of it.
pub type Digest = [u8; 32];

/// The digest of a secret.
#[must_use]
pub fn digest(secret: &str) -> Digest {
    <Sha256 as sha2::Digest>::digest(secret).into()
}

/// The longest value in bytes.
const MAX_VALUE: usize = 1024;

pub(super) fn read(catalog: &mut Catalog, written: WrittenKey, at: &str, findings: &mut Findings) {
    let id = findings.name(&format!("{at}.id"), &written.id);
    let digest = written_digest(&written, at, findings);
    let expires_at =
        written.expires_at.as_deref().and_then(|written| expiry(written, at, findings));
    let plans = plans(catalog, &written.plans, at, findings);
    let overrides = Overrides::read(written.overrides, &format!("{at}.overrides"), findings);
    let at_override = |plan: &str| format!("{at}.overrides.{plan}");
    for plan in overrides.plans().filter(|plan| !plans.iter().any(|id| **id == **plan)) {
        findings.fault(&at_override(plan), "the key is not on this plan");
    }
    overrides.meet(catalog, &format!("{at}.overrides"), findings);
    let customer_id = written.customer_id.map(Arc::from);
    if customer_id
        .as_deref()
        .is_some_and(|id: &str| id.len() > 256 || id.chars().any(char::is_control))
    {
        findings
            .fault(&format!("{at}.customer_id"), "has at most 256 bytes and no control characters");
    }
    let key = Arc::new(ApiKey {
        name: written.name,
        customer_id,
        enabled: written.enabled,
        expires_at,
        plans,
        overrides,
        ..ApiKey::new(&id)
    });
    if catalog.keys_by_id.insert(Arc::clone(&id), Arc::clone(&key)).is_some() {
        findings
            .fault(&format!("{at}.id"), format_args!("the key `{id}` is there twice; rename one"));
    }
    if let Some(other) = digest.and_then(|digest| catalog.keys_by_digest.insert(digest, key)) {
        findings.fault(
            at,
            format_args!("the keys `{}` and `{id}` have the same value; change one", other.id),
        );
    }
}

fn written_digest(written: &WrittenKey, at: &str, findings: &mut Findings) -> Option<Digest> {
    match (&written.value, &written.value_sha256) {
        (Some(value), None) => {
            if value.is_empty() || value.len() > MAX_VALUE || value.chars().any(char::is_control) {
                findings.fault(
                    &format!("{at}.value"),
                    "a key's value has 1 to 1024 bytes and no control characters",
                );
            }
            Some(digest(value))
        }
        (None, Some(hex)) => {
            let bytes = unhex(hex);
            if bytes.is_none() {
                findings.fault(
                    &format!("{at}.value_sha256"),
                    "a SHA-256 has 64 hexadecimal digits; `printf %s KEY | sha256sum` prints them",
                );
            }
            bytes
        }
        _ => {
            findings.fault(at, "a key needs either its `value` or its `value_sha256`");
            None
        }
    }
}

/// A digest from its 64 hexadecimal digits.
#[must_use]
pub fn unhex(hex: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A digest in 64 hexadecimal digits.
#[must_use]
pub fn hex(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// A time written with its zone (RFC 3339), since 1970.
#[must_use]
pub fn time_of(written: &str) -> Option<Micros> {
    let time = written.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(time.as_microsecond()).ok().map(Micros::new)
}

fn expiry(written: &str, at: &str, findings: &mut Findings) -> Option<Micros> {
    let micros = time_of(written);
    if micros.is_none() {
        findings.fault(
            &format!("{at}.expires_at"),
            "write a time with its zone, such as 2027-01-31T00:00:00Z",
        );
    }
    micros
}

/// The key's plans. No two may serve the same stage, unless one stands alongside others: it would be
/// open which one counts.
fn plans(
    catalog: &Catalog,
    written: &[String],
    at: &str,
    findings: &mut Findings,
) -> Vec<Arc<str>> {
    let at = format!("{at}.plans");
    if written.is_empty() {
        findings.warning(&at, "a key without a plan is refused everywhere");
    }
    let mut plans: Vec<Arc<str>> = Vec::new();
    for id in written {
        let Some((id, plan)) = catalog.plans.get_key_value(&**id) else {
            findings.fault(&at, format_args!("there is no plan `{id}`; declare it under `plans`"));
            continue;
        };
        for other in &plans {
            let other_plan = &catalog.plans[other];
            let both = catalog
                .shared_stage(plan, other_plan)
                .filter(|_| !plan.alongside && !other_plan.alongside);
            if other == id {
                findings.fault(&at, format_args!("the plan `{id}` is there twice; keep one"));
            } else if let Some((api, stage)) = both {
                findings.fault(&at, format_args!("the plans `{other}` and `{id}` both serve {api}/{stage}; a key may have one plan for a stage, and any that say `alongside: true`"));
            }
        }
        plans.push(Arc::clone(id));
    }
    plans
}
