//! The plans that keys have together: which of them conflict, and how many limits they judge by.
//!
//! The answers are the same for all keys on the same plans, so they are found once for each list of
//! plans: a catalog file may have many keys, and a plan many stages.

use std::sync::Arc;

use foldhash::HashMap;

use super::{ByStage, Catalog, Plan, StageLimits};

/// The plan sets of the keys of a catalog, as far as they were asked for.
#[derive(Default)]
pub(super) struct PlanSets(HashMap<Vec<Arc<str>>, PlanSet>);

/// The plans of some keys.
pub(super) struct PlanSet {
    /// The error for each two plans of which a key can have only one.
    pub(super) conflicts: Vec<String>,
    /// The most limits that judge a check of such a key, its policies aside.
    pub(super) most_charges: usize,
}

impl PlanSets {
    /// The set of these plans, which the catalog has.
    pub(super) fn get(&mut self, catalog: &Catalog, plans: &[Arc<str>]) -> &PlanSet {
        self.0.entry(plans.to_vec()).or_insert_with(|| PlanSet {
            conflicts: catalog.plan_conflicts(plans),
            most_charges: catalog.most_charges(plans),
        })
    }
}

impl Catalog {
    /// The error for each two of these plans that serve the same stage, unless one is `alongside`:
    /// it would be ambiguous which one applies.
    fn plan_conflicts(&self, ids: &[Arc<str>]) -> Vec<String> {
        let mut conflicts = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            for other in &ids[..place] {
                let (plan, other_plan) = (&self.plans[id], &self.plans[other]);
                let both = self
                    .shared_stage(plan, other_plan)
                    .filter(|_| !plan.alongside && !other_plan.alongside);
                if other == id {
                    conflicts.push(format!("the plan `{id}` is there twice; keep one"));
                } else if let Some((api, stage)) = both {
                    conflicts.push(format!("the plans `{other}` and `{id}` both serve {api}/{stage}; a key may have one plan for a stage, and further ones with `alongside: true`"));
                }
            }
        }
        conflicts
    }

    /// Returns true if a key can be on only one of two plans: both serve the same stage, and
    /// neither is `alongside`.
    #[must_use]
    pub fn plans_conflict(&self, one: &str, other: &str) -> bool {
        let (Some(one), Some(other)) = (self.plans.get(one), self.plans.get(other)) else {
            return false;
        };
        if one.alongside || other.alongside {
            return false;
        }
        one.stages.is_none() && other.stages.is_none() || self.shared_stage(one, other).is_some()
    }

    /// The API and the name of a stage that both plans serve.
    fn shared_stage<'c>(
        &'c self,
        one: &'c Plan,
        other: &'c Plan,
    ) -> Option<(&'c Arc<str>, &'c Arc<str>)> {
        let named = [one, other].into_iter().filter_map(|plan| plan.stages.as_ref());
        let count = |stages: &&ByStage<_>| stages.values().map(HashMap::len).sum::<usize>();
        let Some(fewest) = named.min_by_key(count) else {
            return self.apis.iter().find_map(|(api, stages)| Some((api, stages.keys().next()?)));
        };
        fewest.iter().find_map(|(api, stages)| {
            let serve = |stage: &&Arc<str>| one.serves(api, stage) && other.serves(api, stage);
            stages.keys().find(serve).map(|stage| (api, stage))
        })
    }

    /// The most limits, but for policies, that judge a check of a key on these plans.
    pub(super) fn most_charges(&self, plans: &[impl AsRef<str>]) -> usize {
        let plans = plans.iter().filter_map(|id| self.plans.get(id.as_ref()));
        let plans: Vec<&Plan> = plans.collect();
        let of_plans = |charges: &dyn Fn(&Plan) -> usize| {
            let (alongside, ordinary): (Vec<&Plan>, _) =
                plans.iter().copied().partition(|plan| plan.alongside);
            let sum: usize = alongside.into_iter().map(charges).sum();
            // At most one of them applies to a check.
            sum + ordinary.into_iter().map(charges).max().unwrap_or_default()
        };
        let in_stage = |api: &str, name: &str, stage: &StageLimits| {
            let charges = |plan: &Plan| match plan.methods(api, name) {
                Some(methods) => plan.limits.len() + usize::from(!methods.is_empty()),
                None if plan.stages.is_none() => plan.limits.len(),
                None => 0,
            };
            stage.limits.len() + usize::from(!stage.methods.is_empty()) + of_plans(&charges)
        };
        let stages = self.apis.iter().flat_map(|(api, stages)| {
            stages.iter().map(move |(name, stage)| in_stage(api, name, stage))
        });
        stages.max().unwrap_or_default().max(of_plans(&|plan| plan.limits.len()))
    }
}
