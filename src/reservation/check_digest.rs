//! The digest of a check as it was asked. A repeated request has the same one, whatever the catalog
//! says by then.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::catalog::{CheckRequest, Cost};
use crate::limit::Unit;

/// The first 64 bits of the SHA-256 over a check's parts, each behind its length: the API key by
/// its id, the plan, and everything that the request says. The time to live of the reservation is
/// no part of it, nor is the difference between a default and the same value written out.
#[must_use]
pub fn digest_check(
    key_id: Option<&str>,
    plan: Option<&str>,
    request: &CheckRequest<'_>,
) -> [u8; 8] {
    let mut hasher = Sha256::new();
    let CheckRequest { api, stage, method, path, model, .. } = request;
    for text in [key_id, plan, *api, *stage, *method, *path, *model] {
        put_text(&mut hasher, text);
    }
    let usage = request.usage.copied().unwrap_or_default();
    for number in [usage.input, usage.cached_input, usage.cache_write, usage.output, usage.total] {
        hasher.update(number.unwrap_or(u64::MAX).to_le_bytes());
    }
    hasher.update(request.policies.len().to_le_bytes());
    for entry in &request.policies {
        put_text(&mut hasher, Some(entry.policy));
        put_text(&mut hasher, Some(entry.key));
    }
    for (unit, amount) in amounts(&request.cost) {
        put_text(&mut hasher, Some(unit));
        hasher.update(amount.to_le_bytes());
    }
    let mut digest = [0; 8];
    digest.copy_from_slice(&hasher.finalize()[..8]);
    digest
}

fn put_text(hasher: &mut Sha256, text: Option<&str>) {
    let len = text.map_or(u64::MAX, |text| text.len() as u64);
    hasher.update(len.to_le_bytes());
    hasher.update(text.unwrap_or_default());
}

/// The amounts of a cost by unit, with the default.
fn amounts<'c>(cost: &'c Cost<'_>) -> BTreeMap<&'c str, u64> {
    match cost {
        Cost::Requests(number) => BTreeMap::from([(Unit::REQUESTS, *number)]),
        Cost::Units(units) => {
            let default = std::iter::once((Unit::REQUESTS, 1));
            default.chain(units.iter().map(|(unit, amount)| (&**unit, *amount))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::catalog::PolicyKey;
    use crate::inference::TokenUsage;

    const USAGE: TokenUsage = TokenUsage {
        input: Some(10),
        cached_input: None,
        cache_write: None,
        output: Some(20),
        total: Some(30),
    };

    fn request(cost: Cost<'static>) -> CheckRequest<'static> {
        CheckRequest {
            api: Some("inference"),
            stage: Some("prod"),
            method: None,
            path: None,
            policies: smallvec![PolicyKey { policy: "ip", key: "a", index: None }],
            cost,
            after_the_fact: false,
            model: Some("gpt-5"),
            usage: Some(&USAGE),
        }
    }

    fn tokens(units: &[(&'static str, u64)]) -> Cost<'static> {
        Cost::Units(units.iter().map(|&(unit, amount)| (unit.into(), amount)).collect())
    }

    #[test]
    fn a_check_asked_in_other_words_is_the_same_and_any_other_part_makes_it_another() {
        let digest = |request| digest_check(Some("alice"), Some("pro"), &request);
        let one = digest(request(tokens(&[("total_tokens", 5)])));
        let same = [
            tokens(&[("requests", 1), ("total_tokens", 5)]),
            tokens(&[("total_tokens", 5), ("requests", 1)]),
        ];
        for cost in same {
            assert_eq!(digest(request(cost)), one);
        }
        let plain = || request(tokens(&[("total_tokens", 5)]));
        let others = [
            CheckRequest { api: Some("inferenc"), ..plain() },
            CheckRequest { stage: None, ..plain() },
            CheckRequest { method: Some("GET"), ..plain() },
            CheckRequest { method: Some(""), ..plain() },
            CheckRequest { path: Some("/"), ..plain() },
            CheckRequest { policies: smallvec![], ..plain() },
            CheckRequest { model: None, ..plain() },
            CheckRequest { usage: None, ..plain() },
            CheckRequest { usage: Some(&TokenUsage { output: Some(21), ..USAGE }), ..plain() },
            request(tokens(&[("total_tokens", 6)])),
            request(tokens(&[("total_tokens", 5), ("requests", 2)])),
            request(Cost::Requests(1)),
        ];
        for other in others {
            assert_ne!(digest(other), one);
        }
        assert_ne!(digest_check(Some("bob"), Some("pro"), &plain()), one);
        assert_ne!(digest_check(Some("alice"), None, &plain()), one);
    }
}
