//! The actual use of a reserved check, as a gateway reports it, in each unit of the check.
//!
//! Prices are the catalog's; here is only what may change, and what stays as it was estimated.

use super::ReservedCheck;
use crate::catalog::{Catalog, Cost};
use crate::inference::TokenUsage;
use crate::limit::AdjustedUnits;

/// The units that were used, or those used so far.
#[derive(Clone)]
pub struct Actual<'a> {
    /// The tokens; `None` if they are unknown.
    pub usage: Option<TokenUsage>,
    /// Amounts by unit, which win over those that follow from the usage.
    pub amounts: Cost<'a>,
    /// The model of the response, if it is another one than was reserved for.
    pub model: Option<&'a str>,
    /// True if more may have been used than is known: then nothing is given back.
    pub at_least: bool,
}

impl ReservedCheck {
    /// The units that each of [`ReservedCheck::amounts`] comes to. One that does not follow from
    /// what is known keeps its estimate.
    #[must_use]
    pub fn actual_units(&self, actual: &Actual<'_>, catalog: &Catalog) -> Vec<AdjustedUnits> {
        let usage = actual.usage.unwrap_or_default();
        let usage = with_estimate(usage, &self.estimate);
        let costs =
            catalog.settled_costs(actual.model, self.model.as_deref(), &usage, &actual.amounts);
        let units = |unit: &str| match costs.named(unit) {
            None => AdjustedUnits::UNKNOWN,
            Some(units) if actual.at_least => AdjustedUnits::AtLeast(units),
            Some(units) => AdjustedUnits::Exactly(units),
        };
        self.amounts.iter().map(|reserved| units(reserved.unit.as_str())).collect()
    }
}

/// A usage of which the input or the output is unknown, with the estimate of that part. A total
/// alone stays alone.
fn with_estimate(usage: TokenUsage, estimate: &TokenUsage) -> TokenUsage {
    if usage.input.is_none() && usage.output.is_none() {
        return usage;
    }
    let of_input = if usage.input.is_some() { &usage } else { estimate };
    let (input, output) = (of_input.input, usage.output.or(estimate.output));
    TokenUsage {
        input,
        cached_input: of_input.cached_input,
        cache_write: of_input.cache_write,
        output,
        total: input.zip(output).map(|(input, output)| input + output),
    }
}

#[cfg(test)]
mod tests {
    use AdjustedUnits::{AtLeast, Exactly};

    use super::*;
    use crate::limit::Unit;
    use crate::reservation::ReservedAmount;

    const CATALOG: &str = r"
version: 1
models:
  dear: { input: 2000000, output: 10000000 }
  cheap: { input: 1000000, output: 1000000 }
units:
  burndown: { input: 1, output: 5 }
";

    const UNKNOWN: AdjustedUnits = AdjustedUnits::UNKNOWN;

    fn reserved() -> ReservedCheck {
        let units = [
            "requests",
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "cost_microusd",
            "burndown",
            "jobs",
        ];
        let amount = |unit: &str| ReservedAmount { unit: Unit::new(unit), amount: 1 };
        ReservedCheck {
            model: Some("dear".into()),
            estimate: TokenUsage { input: Some(100), output: Some(50), ..TokenUsage::default() },
            amounts: units.map(amount).to_vec(),
            ..ReservedCheck::default()
        }
    }

    fn usage(input: Option<u64>, output: Option<u64>, total: Option<u64>) -> TokenUsage {
        TokenUsage { input, output, total, ..TokenUsage::default() }
    }

    fn settle(
        usage: impl Into<Option<TokenUsage>>,
        amounts: &[(&'static str, u64)],
    ) -> Actual<'static> {
        let amounts = amounts.iter().map(|&(unit, amount)| (unit.into(), amount)).collect();
        Actual { usage: usage.into(), amounts: Cost::Units(amounts), model: None, at_least: false }
    }

    #[test]
    #[rustfmt::skip]
    fn each_unit_comes_to_what_is_known_and_else_keeps_its_estimate() {
        let catalog = Catalog::parse(CATALOG, "test").unwrap();
        let known = |numbers: [i64; 7]| {
            numbers.map(|number| u64::try_from(number).map_or(UNKNOWN, Exactly))
        };
        let cases = [
            ("nothing is known",          settle(None, &[]),                                   known([-1; 7])),
            ("an empty usage",            settle(usage(None, None, None), &[]),                known([-1; 7])),
            ("both",                      settle(usage(Some(10), Some(20), Some(30)), &[]),    known([-1, 10, 20, 30, 220, 110, -1])),
            ("input alone",               settle(usage(Some(10), None, None), &[]),            known([-1, 10, 50, 60, 520, 260, -1])),
            ("output alone",              settle(usage(None, Some(20), None), &[]),            known([-1, 100, 20, 120, 400, 200, -1])),
            ("a total alone",             settle(usage(None, None, Some(7)), &[]),             known([-1, -1, -1, 7, -1, -1, -1])),
            ("a unit alone",              settle(None, &[("jobs", 3)]),                        known([-1, -1, -1, -1, -1, -1, 3])),
            ("a unit beside the usage",   settle(usage(Some(10), Some(20), None), &[("burndown", 9), ("requests", 2)]), known([2, 10, 20, 30, 220, 9, -1])),
            ("a unit that nobody limits", settle(None, &[("other", 3)]),                       known([-1; 7])),
        ];
        for (why, actual, expected) in cases {
            assert_eq!(reserved().actual_units(&actual, &catalog), expected, "{why}");
        }
    }

    #[test]
    fn more_than_is_known_may_have_been_used_and_another_model_has_another_price() {
        let catalog = Catalog::parse(CATALOG, "test").unwrap();
        let actual = Actual { at_least: true, ..settle(usage(Some(10), Some(20), None), &[]) };
        let units = reserved().actual_units(&actual, &catalog);
        assert_eq!(units[..4], [UNKNOWN, AtLeast(10), AtLeast(20), AtLeast(30)]);
        for (model, cost) in [("cheap", 30), ("unpriced", 220)] {
            let actual = Actual { model: Some(model), at_least: false, ..actual.clone() };
            let units = reserved().actual_units(&actual, &catalog);
            assert_eq!(units[4], Exactly(cost), "{model}");
        }
    }
}
