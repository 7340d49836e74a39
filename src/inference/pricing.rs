//! The models and the units of a catalog, and what a usage costs in each unit.
//!
//! The catalog validates them; nothing here refuses.

use std::cmp::Reverse;
use std::sync::Arc;

use foldhash::HashMap;

use super::{TokenUsage, Weights};
use crate::limit::{ModelPattern, Unit};

/// A model's price and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The price in microdollars; `None` if the catalog has none.
    pub price: Option<Weights>,
    /// The most tokens that a response has, if the catalog says so.
    pub max_output: Option<u64>,
}

/// Models by their names, and units by theirs.
#[derive(Debug)]
pub struct Pricing {
    /// The most specific name first.
    models: Vec<(ModelPattern, Model)>,
    units: HashMap<Arc<str>, Weights>,
}

impl Default for Pricing {
    fn default() -> Self {
        Self::new(Vec::new(), [])
    }
}

impl Pricing {
    /// Models, and units beside those that exist in every catalog.
    #[must_use]
    pub fn new(
        mut models: Vec<(ModelPattern, Model)>,
        units: impl IntoIterator<Item = (Arc<str>, Weights)>,
    ) -> Self {
        models.sort_by_key(|(pattern, _)| Reverse(pattern.specificity()));
        let mut units: HashMap<Arc<str>, Weights> = units.into_iter().collect();
        units.insert(Unit::INPUT_TOKENS.into(), Weights::INPUT);
        units.insert(Unit::OUTPUT_TOKENS.into(), Weights::OUTPUT);
        units.insert(Unit::TOTAL_TOKENS.into(), Weights::TOTAL);
        Self { models, units }
    }

    /// The model with this name: of the names that match, the longest.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, model)| model)
    }

    /// The price of the model with this name.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<&Weights> {
        self.model(model)?.price.as_ref()
    }

    /// The units that count tokens by kind.
    pub fn units(&self) -> impl Iterator<Item = &Arc<str>> {
        self.units.keys()
    }

    /// The weights of a unit for a model; `None` if it does not follow from tokens.
    #[must_use]
    pub fn weights(&self, unit: &str, model: Option<&str>) -> Option<&Weights> {
        if unit == Unit::COST_MICROUSD { self.price(model?) } else { self.units.get(unit) }
    }

    /// The cost of a usage in a unit; `None` if it does not follow from what is known.
    #[must_use]
    pub fn cost(&self, unit: &str, model: Option<&str>, usage: &TokenUsage) -> Option<u64> {
        if unit == Unit::TOTAL_TOKENS && usage.total.is_some() {
            return usage.total;
        }
        self.weights(unit, model)?.weigh(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(max_output: u64) -> Model {
        Model { price: Some(Weights::TOTAL), max_output: Some(max_output) }
    }

    #[test]
    #[rustfmt::skip]
    fn the_longest_name_that_matches_wins() {
        let names = ["*", "gpt-5*", "gpt-5", "gpt-5-mini*", "gpt-5-mini-2025"];
        let models = (0..).zip(names).map(|(place, name)| (name.parse().unwrap(), priced(place)));
        let pricing = Pricing::new(models.collect(), []);
        let cases = [
            ("gpt-5-mini-2025",   "gpt-5-mini-2025"),
            ("gpt-5-mini-2025-b", "gpt-5-mini*"),
            ("gpt-5-mini",        "gpt-5-mini*"),
            ("gpt-5",             "gpt-5"),
            ("gpt-5-nano",        "gpt-5*"),
            ("claude",            "*"),
        ];
        for (model, expected) in cases {
            let place = pricing.model(model).unwrap().max_output.unwrap();
            assert_eq!(names[usize::try_from(place).unwrap()], expected, "{model}");
        }
        assert_eq!(Pricing::default().model("gpt-5"), None);
    }

    #[test]
    fn a_cost_follows_from_what_is_known() {
        let tripled = Weights { output: 3, ..Weights::TOTAL };
        let models = vec![("a".parse().unwrap(), priced(1))];
        let pricing = Pricing::new(models, [("burndown".into(), tripled)]);
        let usage = TokenUsage { input: Some(5), output: Some(2), ..TokenUsage::default() };
        let costs = |usage: &TokenUsage, model| {
            ["input_tokens", "output_tokens", "total_tokens", "burndown", "cost_microusd", "other"]
                .map(|unit| pricing.cost(unit, model, usage))
        };
        let known = [Some(5), Some(2), Some(7), Some(11), Some(7), None];
        assert_eq!(costs(&usage, Some("a")), known);
        assert_eq!(costs(&usage, Some("b"))[4], None, "a model without a price");
        assert_eq!(costs(&usage, None)[4], None);
        let total = TokenUsage { total: Some(9), ..TokenUsage::default() };
        assert_eq!(costs(&total, Some("a")), [None, None, Some(9), None, None, None]);
    }
}
