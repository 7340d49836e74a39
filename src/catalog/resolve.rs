//! Resolves a check request to the limits that it is charged to, in the order of judging.
//!
//! This is the hot path: lookups use borrowed names, and only methods that are not listed allocate.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::methods::MethodLimits;
use super::request::{CheckRequest, Cost, PolicyKey};
use super::route::{HttpRoute, normalize_method, normalize_path};
use super::{ApiKey, Catalog, Plan, StageLimits};
use crate::failure_policy::FailurePolicy;
use crate::inference::TokenUsage;
use crate::limit::{Charge, ChargeMode, Charges, Limit, Subject};
use crate::time::Micros;

/// The limits that apply to a check request.
pub struct ResolvedLimits {
    /// The charge to every limit that applies, in the order of judging.
    pub charges: Charges,
    /// The number of the last charges that are made under the key's own policies. A store whose
    /// counters are spread may charge them ahead and refund them.
    pub key_policies: usize,
    /// True if the request has an API key that may not be used, and the method needs none.
    pub ignores_key: bool,
    /// The plan of the API key; of several, the one that is not `alongside`, or else the first.
    pub plan: Option<Arc<str>>,
    /// Metric label: the plan, or else the first policy, or else the stage.
    pub label: Option<Arc<str>>,
    /// The strictest failure policy of all plans and policies that apply.
    pub on_store_failure: FailurePolicy,
}

/// The reason why a check request cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// A field is not valid, or names something that does not exist.
    Invalid {
        /// Name of the field.
        field: String,
        /// The fault.
        detail: String,
    },
    /// The API key may not be used for this request.
    Forbidden {
        /// The reason.
        detail: Cow<'static, str>,
    },
    /// The API key cannot be looked up while the store is down.
    LookupUnavailable,
    /// The catalog has not been read yet.
    NotReady,
    /// Another check has opened a reservation under this id, or its time is over.
    ReservationConflict,
    /// A request has more charges than the store is asked to judge for one request.
    TooManyCharges {
        /// The most charges of a request.
        max: usize,
    },
}

pub(super) fn invalid<T>(
    field: impl Into<String>,
    detail: impl Into<String>,
) -> Result<T, CheckError> {
    Err(CheckError::Invalid { field: field.into(), detail: detail.into() })
}

pub(super) fn forbidden<T>(detail: &'static str) -> Result<T, CheckError> {
    Err(CheckError::Forbidden { detail: detail.into() })
}

/// The cost of a check in each unit, and the model whose limits it meets; without a model it meets
/// those of all models.
struct CheckCost<'c, 'r> {
    model: Option<&'r str>,
    asked: &'c Cost<'r>,
    /// In place of what is asked, if the request has a usage.
    of_usage: Option<Cost<'c>>,
}

impl CheckCost<'_, '_> {
    fn for_unit(&self, unit: &str) -> u64 {
        match &self.of_usage {
            None => self.asked.for_unit(unit),
            Some(cost) => cost.for_unit(unit),
        }
    }
}

/// The stage that a request names.
struct StageRef<'c> {
    api: &'c str,
    name: &'c str,
    stage: &'c StageLimits,
}

impl Catalog {
    /// Resolves a request of the client with `key`, which must be valid at `now`. A report is
    /// charged to a disabled or expired key as well: what it reports has been used. A method that
    /// needs no key ignores one that may not be used.
    ///
    /// # Errors
    /// If the request names something that the catalog does not have, or the key may not be used
    /// for it.
    pub fn resolve(
        &self,
        request: &CheckRequest<'_>,
        key: Option<&Arc<ApiKey>>,
        now: Micros,
    ) -> Result<ResolvedLimits, CheckError> {
        let is_anonymous = key.is_none() && request.policies.is_empty();
        if is_anonymous && !self.needs_no_key(request) {
            return invalid("api_key", "send an api_key, a key_id, or a policy with a key");
        }
        self.check_units("cost", &request.cost, |_| false)?;
        let stage_ref = self.find_stage(request)?;
        let route = normalize_route(request)?;
        let (key, plans, ignores_key) =
            match self.usable_plans(key, stage_ref.as_ref(), request, now) {
                Err(CheckError::Forbidden { .. }) if self.needs_no_key(request) => {
                    (None, SmallVec::default(), true)
                }
                plans => (key, plans?, false),
            };
        let plan = plans.first();
        let cost = self.check_cost(request);
        let mut resolved = ResolvedLimits {
            charges: Charges::new(),
            key_policies: 0,
            ignores_key,
            plan: plan.map(|plan| Arc::clone(&plan.id)),
            label: plan.map(|plan| Arc::clone(&plan.id)),
            on_store_failure: FailurePolicy::Open,
        };
        for (key, plan) in key.into_iter().flat_map(|key| plans.iter().map(move |plan| (key, plan)))
        {
            resolved.on_store_failure = resolved.on_store_failure.max(plan.on_store_failure);
            let methods = stage_ref
                .as_ref()
                .and_then(|stage_ref| plan.methods(stage_ref.api, stage_ref.name));
            charge_method(&mut resolved.charges, methods, key.subject, route.as_ref(), &cost);
            match key.own_limits(self, plan) {
                None => charge_all(&mut resolved.charges, &plan.limits, key.subject, &cost),
                Some(own) => charge_all(&mut resolved.charges, &own, key.subject, &cost),
            }
        }
        if let Some(StageRef { stage, .. }) = &stage_ref {
            charge_method(
                &mut resolved.charges,
                Some(&stage.methods),
                stage.subject,
                route.as_ref(),
                &cost,
            );
            charge_all(&mut resolved.charges, &stage.limits, stage.subject, &cost);
        }
        self.resolve_policies(request, key, &cost, &mut resolved)?;
        if let Some(StageRef { stage, .. }) = &stage_ref {
            resolved.label.get_or_insert_with(|| Arc::clone(&stage.label));
        }
        self.check_budgets(request, cost.of_usage.as_ref(), &resolved.charges)?;
        if request.after_the_fact {
            resolved.charges.iter_mut().for_each(|charge| charge.mode = ChargeMode::Always);
        }
        Ok(resolved)
    }

    fn check_cost<'c, 'r>(&'c self, request: &'c CheckRequest<'r>) -> CheckCost<'c, 'r> {
        let of_usage =
            |usage: &TokenUsage| self.costs(request.model, &usage.known_part(), &request.cost);
        CheckCost {
            model: request.model,
            asked: &request.cost,
            of_usage: request.usage.map(of_usage),
        }
    }

    /// Returns true if the requested stage, or a plan that serves it, has limits per method: a
    /// request without a method and a path would bypass them.
    #[must_use]
    pub fn has_method_limits(&self, request: &CheckRequest<'_>) -> bool {
        let (Some(api), Some(name)) = (request.api, request.stage) else { return false };
        let stage = self.apis.get(api).and_then(|stages| stages.get(name));
        stage.is_some_and(|stage| !stage.methods.is_empty() || stage.has_methods_of_plans)
    }

    /// Checks that the catalog knows all units of a cost, apart from those that the caller knows.
    ///
    /// # Errors
    /// If it does not: the error names the unit in the request's `member`.
    pub fn check_units(
        &self,
        member: &str,
        cost: &Cost<'_>,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<(), CheckError> {
        let Cost::Units(units) = cost else { return Ok(()) };
        match units.iter().find(|(unit, _)| !self.units.contains(&**unit) && !is_known(unit)) {
            None => Ok(()),
            Some((unit, _)) => invalid(
                format!("{member}.{unit}"),
                format!("there is no such unit; the catalog has {}", self.unit_names()),
            ),
        }
    }

    fn find_stage(&self, request: &CheckRequest<'_>) -> Result<Option<StageRef<'_>>, CheckError> {
        let (api, stage) = match (request.api, request.stage) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return invalid("api", "a stage needs its API"),
            (Some(_), None) => return invalid("stage", "an api needs its stage"),
            (Some(api), Some(stage)) => (api, stage),
        };
        let Some((api, stages)) = self.apis.get_key_value(api) else {
            return invalid("api", format!("the catalog has no api `{api}`"));
        };
        match stages.get_key_value(stage) {
            Some((name, stage)) => Ok(Some(StageRef { api, name, stage })),
            None => invalid("stage", format!("the api `{api}` has no stage `{stage}`")),
        }
    }

    /// The plans of a key that may be used, as [`Catalog::plans`] has them.
    fn usable_plans<'c>(
        &'c self,
        key: Option<&Arc<ApiKey>>,
        stage_ref: Option<&StageRef<'_>>,
        request: &CheckRequest<'_>,
        now: Micros,
    ) -> Result<SmallVec<[&'c Plan; 2]>, CheckError> {
        let Some(key) = key else { return Ok(SmallVec::default()) };
        if !request.after_the_fact {
            check_validity(key, now)?;
        }
        self.plans(key, stage_ref)
    }

    /// The plans of the key that apply, first the one that is not `alongside`, if there is one.
    fn plans<'c>(
        &'c self,
        key: &ApiKey,
        stage_ref: Option<&StageRef<'_>>,
    ) -> Result<SmallVec<[&'c Plan; 2]>, CheckError> {
        let mut plans = SmallVec::<[&Plan; 2]>::new();
        let mut is_on_another = false;
        for plan in key.plans.iter().filter_map(|id| self.plans.get(id)) {
            if stage_ref.is_some_and(|stage_ref| !plan.serves(stage_ref.api, stage_ref.name)) {
                continue;
            }
            if plan.alongside {
                plans.push(plan);
            } else if plans.first().is_some_and(|first| !first.alongside) {
                // The plans were changed while the key was on both: the first one applies.
                is_on_another = true;
            } else {
                plans.insert(0, plan);
            }
        }
        match stage_ref {
            Some(_) if plans.is_empty() => forbidden("the API key has no plan for this stage"),
            None if plans.is_empty() => forbidden("the API key has no plan"),
            None if is_on_another => {
                invalid("api", "the API key is on several plans: name the api and the stage")
            }
            _ => Ok(plans),
        }
    }

    fn resolve_policies(
        &self,
        request: &CheckRequest<'_>,
        key: Option<&Arc<ApiKey>>,
        cost: &CheckCost<'_, '_>,
        resolved: &mut ResolvedLimits,
    ) -> Result<(), CheckError> {
        for (place, entry) in request.policies.iter().enumerate() {
            let Some(policy) = self.policies.get(entry.policy) else {
                return invalid(
                    entry.field("policy"),
                    format!("the catalog has no policy `{}`", entry.policy),
                );
            };
            let subject = match policy.subject(entry.policy, entry.key) {
                Ok(subject) => subject,
                Err(why) => return invalid(entry.field("key"), why),
            };
            let is_same = |other: &PolicyKey<'_>| {
                other.policy == entry.policy && policy.key_type.is_same(other.key, entry.key)
            };
            if request.policies[..place].iter().any(is_same) {
                return invalid(
                    entry.field("policy"),
                    "the same policy with the same key is there twice; raise the cost to charge more",
                );
            }
            resolved.label.get_or_insert_with(|| Arc::clone(&policy.label));
            if key.is_some_and(|key| key.policies.contains(entry.policy, policy, subject)) {
                continue;
            }
            resolved.on_store_failure = resolved.on_store_failure.max(policy.on_store_failure);
            charge_all(&mut resolved.charges, &policy.limits, subject, cost);
        }
        let named = resolved.charges.len();
        for (policy, subject) in key.into_iter().flat_map(|key| key.own_policies(self)) {
            resolved.on_store_failure = resolved.on_store_failure.max(policy.on_store_failure);
            charge_all(&mut resolved.charges, &policy.key_limits, subject, cost);
        }
        resolved.key_policies = resolved.charges.len() - named;
        Ok(())
    }
}

/// An error if the key may not be used at `now`.
fn check_validity(key: &ApiKey, now: Micros) -> Result<(), CheckError> {
    match key.expires_at {
        _ if !key.enabled => forbidden("the API key is disabled"),
        Some(end) if end <= now => forbidden("the API key has expired"),
        _ => Ok(()),
    }
}

/// The method and the path in normal form, if the request has both. Each is validated on its own.
pub(super) fn normalize_route<'a>(
    request: &CheckRequest<'a>,
) -> Result<Option<HttpRoute<'a>>, CheckError> {
    let method = match request.method.map(normalize_method) {
        Some(None) => return invalid("method", "is no HTTP method"),
        Some(Some(method)) => Some(method),
        None => None,
    };
    let path = match request.path.map(normalize_path) {
        Some(Err(why)) => return invalid("path", why),
        Some(Ok(path)) => Some(path),
        None => None,
    };
    Ok(method.zip(path).map(|(method, path)| HttpRoute { method, path }))
}

/// Charges the limit of the requested method, if there is one.
fn charge_method(
    charges: &mut Charges,
    methods: Option<&MethodLimits>,
    owner: Subject,
    route: Option<&HttpRoute<'_>>,
    cost: &CheckCost<'_, '_>,
) {
    let (Some(methods), Some(route)) = (methods, route) else { return };
    if let Some((limit, subject)) = methods.limit_for(route, owner) {
        charge_all(charges, &[limit], subject, cost);
    }
}

fn charge_all(
    charges: &mut Charges,
    limits: &[Arc<Limit>],
    subject: Subject,
    cost: &CheckCost<'_, '_>,
) {
    let charge = |limit: &Arc<Limit>| {
        let amount = cost.for_unit(limit.unit().as_str());
        Charge::new(subject, Arc::clone(limit), amount)
    };
    match cost.model {
        None => charges.extend(limits.iter().map(charge)),
        Some(model) => {
            charges.extend(limits.iter().filter(|limit| limit.counts_model(model)).map(charge));
        }
    }
}
