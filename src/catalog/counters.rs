//! The limits of a catalog by the rows of their counters: a reservation names its charges by those.
//!
//! Found by a row, a limit has the sizes of today. One of a method that a `*` matches has the name
//! of the `*`.

use std::sync::Arc;

use foldhash::HashMap;

use super::methods::MethodLimits;
use super::{ApiKey, Catalog};
use crate::limit::{Limit, RowId};

/// Limits by the rows of their counters.
pub(super) type LimitsByRow = HashMap<RowId, Arc<Limit>>;

impl Catalog {
    /// All limits, meters among them.
    pub(super) fn all_limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        let stages = self.apis.values().flat_map(HashMap::values);
        let of_stages = stages.flat_map(|stage| stage.limits.iter().chain(stage.methods.all()));
        let of_plans = self.plans.values().flat_map(|plan| {
            let served = plan.stages.iter().flat_map(HashMap::values).flat_map(HashMap::values);
            plan.limits.iter().chain(served.flat_map(MethodLimits::all))
        });
        let of_policies = self.policies.values().flat_map(|policy| &policy.limits);
        of_stages.chain(of_plans).chain(of_policies)
    }

    /// All limits by the rows of their counters.
    pub(super) fn index_limits(&self) -> LimitsByRow {
        self.all_limits().map(|limit| (limit.row(), Arc::clone(limit))).collect()
    }

    /// The limit whose counters are in this row, in the own size of `key` if it has one; `None` if
    /// there is no such limit any more.
    #[must_use]
    pub fn limit_by_row(&self, row: RowId, key: Option<&ApiKey>) -> Option<Arc<Limit>> {
        let plans = key.into_iter().flat_map(|key| key.plans.iter().map(move |id| (key, id)));
        let mut own = plans.filter_map(|(key, id)| key.own_limits(self, self.plans.get(id)?));
        let own = own.find_map(|limits| limits.iter().find(|limit| limit.row() == row).cloned());
        own.or_else(|| self.limits_by_row.get(&row).cloned())
    }

    /// The metrics label of a plan, of a policy or of a stage, by itself; `None` if there is none any more.
    #[must_use]
    pub fn label(&self, label: &str) -> Option<&Arc<str>> {
        let plan = self.plans.get(label).map(|plan| &plan.id);
        plan.or_else(|| {
            self.policies.get(label.strip_prefix("policy:")?).map(|policy| &policy.label)
        })
        .or_else(|| {
            let (api, stage) = label.strip_prefix("stage:")?.split_once('/')?;
            self.apis.get(api)?.get(stage).map(|stage| &stage.label)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CheckRequest, Cost, PolicyKey};
    use crate::time::Micros;

    const CATALOG: &str = r#"
version: 1
apis:
  - id: api
    stages:
      - name: stage
        throttle: { rate: 9/s, burst: 9 }
        methods: { "*": { throttle: { rate: 8/s, burst: 8 } }, "GET /a": { throttle: { rate: 7/s, burst: 7 } } }
plans:
  - id: pro
    api_stages: [{ api: api, stage: stage, methods: { "GET /a": { throttle: { rate: 6/s, burst: 6 } } } }]
    throttle: { rate: 5/s, burst: 5 }
    limits: [{ name: tpm, unit: total_tokens, throttle: { rate: 4/s, burst: 4 } }]
policies: [{ name: ip, quota: { limit: 3, period: day } }]
keys: [{ id: alice, value: a, plans: [pro], overrides: { pro: { throttle: { rate: 50/s, burst: 50 } } } }]
"#;

    #[test]
    fn every_charge_of_a_check_is_found_by_its_row_in_the_size_that_was_charged() {
        let catalog = Catalog::parse(CATALOG, "test").unwrap();
        let key = catalog.key_by_id("alice").unwrap();
        for path in ["/a", "/other"] {
            let request = CheckRequest {
                api: Some("api"),
                stage: Some("stage"),
                method: Some("GET"),
                path: Some(path),
                policies: [PolicyKey { policy: "ip", key: "k", index: None }].into_iter().collect(),
                cost: Cost::Requests(1),
                after_the_fact: false,
                model: None,
                usage: None,
            };
            let resolved = catalog.resolve(&request, Some(key), Micros::ZERO).unwrap();
            assert!(resolved.charges.len() >= 7, "{path}");
            for charge in &resolved.charges {
                let found = catalog.limit_by_row(charge.limit.row(), Some(key)).unwrap();
                assert_eq!(found.label(), charge.limit.label());
                assert_eq!(found.algorithm(), charge.limit.algorithm());
            }
        }
        let own = catalog.plan_limits_for_key("pro", key).unwrap();
        let without_key = catalog.limit_by_row(own[0].row(), None).unwrap();
        assert_eq!((own[0].capacity(), without_key.capacity()), (50, 5));
        let label = |label| catalog.label(label).map(|label| &**label);
        assert_eq!(label("pro"), Some("pro"));
        assert_eq!(label("policy:ip"), Some("policy:ip"));
        assert_eq!((label("ip"), label("policy:pro"), label("")), (None, None, None));
    }
}
