//! The costs of a check, a reservation and a settlement in each unit, from the tokens of a model.
//!
//! The sums are `inference`'s. Which limits apply is `resolve`'s.

/// The error of a check of a budget that nothing can be charged to.
fn unnamed_model(budget: &str) -> String {
    format!("`{budget}` counts money: name the model, or `cost_microusd` in the cost")
}

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::Catalog;
use super::request::{CheckRequest, Cost};
use super::resolve::{CheckError, invalid};
use crate::inference::{TokenUsage, Weights};
use crate::limit::{Charge, Charges, Unit};

impl Catalog {
    /// The cost in each unit that follows from a usage of `model`, and those that `cost` names,
    /// which win. A unit that does not follow from what is known is left out.
    #[must_use]
    pub fn costs<'c>(
        &'c self,
        model: Option<&str>,
        usage: &TokenUsage,
        cost: &'c Cost<'_>,
    ) -> Cost<'c> {
        let named: SmallVec<[(Cow<'c, str>, u64); 2]> = match cost {
            Cost::Requests(number) => smallvec![(Cow::Borrowed(Unit::REQUESTS), *number)],
            Cost::Units(units) => {
                units.iter().map(|(unit, number)| (Cow::Borrowed(&**unit), *number)).collect()
            }
        };
        let units = self.pricing.units().map(|unit| &**unit).chain([Unit::COST_MICROUSD]);
        let priced = units.filter(|unit| cost.named(unit).is_none()).filter_map(|unit| {
            let cost = self.pricing.cost(unit, model, usage)?;
            Some((Cow::Borrowed(unit), cost))
        });
        Cost::Units(named.into_iter().chain(priced).collect())
    }

    /// The cost of what was used after a reservation. A `model` without a price counts as the
    /// `reserved` one. A unit that is left out keeps its estimate.
    #[must_use]
    pub fn settled_costs<'c>(
        &'c self,
        model: Option<&str>,
        reserved: Option<&str>,
        usage: &TokenUsage,
        cost: &'c Cost<'_>,
    ) -> Cost<'c> {
        let priced = model.filter(|model| self.pricing.price(model).is_some());
        self.costs(priced.or(reserved), usage, cost)
    }

    /// The cost of a reservation, and puts it into the `charges` that `request` resolved to. An
    /// output that the request does not name is the model's `max_output`, or as much of it as
    /// could ever fit the limits. An input that it does not name costs nothing.
    ///
    /// # Errors
    /// If a limit counts the output, and neither the request nor the catalog says how much that
    /// may be; or if a budget applies, and the request names neither a model nor the money.
    pub fn reserve_costs<'c>(
        &'c self,
        request: &'c CheckRequest<'_>,
        charges: &mut Charges,
    ) -> Result<Cost<'c>, CheckError> {
        let mut usage = request.usage.copied().unwrap_or_default();
        if usage.output.is_none() {
            usage.output = self.default_output(request, &usage, charges)?;
        }
        let cost = self.costs(request.model, &usage.known_part(), &request.cost);
        for charge in charges {
            let unit = charge.limit.unit().as_str();
            if unit == Unit::COST_MICROUSD
                && charge.limit.refuses_alone()
                && cost.named(unit).is_none()
            {
                return invalid("model", unnamed_model(charge.limit.name()));
            }
            charge.cost = cost.for_unit(unit);
        }
        Ok(cost)
    }

    /// The output of a request that does not name it; `None` if no limit needs it.
    fn default_output(
        &self,
        request: &CheckRequest<'_>,
        usage: &TokenUsage,
        charges: &Charges,
    ) -> Result<Option<u64>, CheckError> {
        let counts_output = |charge: &&Charge| {
            let unit = charge.limit.unit().as_str();
            let is_given = request.cost.named(unit).is_some()
                || unit == Unit::TOTAL_TOKENS && usage.total.is_some();
            let weights = self.pricing.weights(unit, request.model);
            !is_given && weights.is_some_and(Weights::weighs_output)
        };
        let mut enforced = charges
            .iter()
            .filter(|charge| charge.limit.refuses_alone())
            .filter(counts_output)
            .peekable();
        let max_output = request
            .model
            .and_then(|model| self.pricing.model(model))
            .and_then(|model| model.max_output);
        match (max_output, enforced.peek()) {
            (Some(max_output), _) => Ok(Some(enforced.fold(max_output, |most, charge| {
                let weights = self.pricing.weights(charge.limit.unit().as_str(), request.model);
                let capacity = charge.limit.capacity();
                weights.map_or(most, |weights| weights.largest_output(usage, capacity, most))
            }))),
            (None, Some(charge)) => invalid(
                "usage.output_tokens",
                format!(
                    "`{}` counts the output: send the most tokens that it may have, such as the request's max_tokens, or declare `max_output` for the model in the catalog",
                    charge.limit.name()
                ),
            ),
            (None, None) => Ok(None),
        }
    }

    /// Checks that every budget can be charged: a model without a price would be free.
    pub(super) fn check_budgets(
        &self,
        request: &CheckRequest<'_>,
        of_usage: Option<&Cost<'_>>,
        charges: &Charges,
    ) -> Result<(), CheckError> {
        let is_named = |cost: &Cost<'_>| cost.named(Unit::COST_MICROUSD).is_some();
        let usage = request.usage.filter(|usage| !usage.is_unknown());
        if request.model.is_none() && usage.is_none()
            || is_named(&request.cost)
            || of_usage.is_some_and(is_named)
        {
            return Ok(());
        }
        let is_budget = |charge: &&Charge| {
            charge.limit.unit().as_str() == Unit::COST_MICROUSD && charge.limit.refuses_alone()
        };
        let Some(budget) = charges.iter().find(is_budget).map(|charge| charge.limit.name()) else {
            return Ok(());
        };
        let price = request.model.map(|model| self.pricing.price(model));
        match (price, usage) {
            (None, _) => invalid("model", unnamed_model(budget)),
            (Some(None), _) => invalid(
                "model",
                format!(
                    "`{budget}` counts money, and the catalog has no price for this model: declare one under `models`, or name `cost_microusd` in the cost"
                ),
            ),
            (Some(Some(_)), Some(_)) => invalid(
                "usage",
                format!(
                    "`{budget}` counts money, which does not follow from a total: send the input and the output, or name `cost_microusd` in the cost"
                ),
            ),
            (Some(Some(_)), None) => Ok(()),
        }
    }
}
