//! Weighted sums of tokens: units that differ by kind of token, and prices.
//!
//! The sum is made of whole parts of a unit, and rounded up to whole units once.

use super::TokenUsage;
use crate::limit::MAX_COST;

/// The weight of a token of each kind, in `1/parts` of the sum's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Weight of a token of the input that has nothing to do with a cache.
    pub input: u64,
    /// Weight of a token that was read from a cache.
    pub cached_input: u64,
    /// Weight of a token that was written to a cache.
    pub cache_write: u64,
    /// Weight of a token of the output.
    pub output: u64,
    /// The number of parts in a unit, above 0.
    pub parts: u64,
}

impl Weights {
    /// Each token of the input, and nothing else.
    pub(super) const INPUT: Self = Self { output: 0, ..Self::TOTAL };
    /// Each token of the output, and nothing else.
    pub(super) const OUTPUT: Self =
        Self { input: 0, cached_input: 0, cache_write: 0, output: 1, parts: 1 };
    /// Each token.
    pub(super) const TOTAL: Self =
        Self { input: 1, cached_input: 1, cache_write: 1, output: 1, parts: 1 };

    /// The sum in whole units, rounded up, and 2^53 at most; `None` if a kind that has a weight is
    /// unknown.
    #[must_use]
    pub fn weigh(&self, usage: &TokenUsage) -> Option<u64> {
        let input = if self.weighs_input() { self.parts_of_input(usage)? } else { 0 };
        let output = if self.output > 0 { self.weight(self.output, usage.output?) } else { 0 };
        let units = (input + output).div_ceil(self.parts.into());
        Some(u64::try_from(units).map_or(MAX_COST, |units| units.min(MAX_COST)))
    }

    /// The largest output up to `most` with which the sum is at most `units`. An unknown input is
    /// none.
    #[must_use]
    pub fn largest_output(&self, usage: &TokenUsage, units: u64, most: u64) -> u64 {
        let room = u128::from(units) * u128::from(self.parts);
        let room = room.saturating_sub(self.parts_of_input(usage).unwrap_or(0));
        let output = room.checked_div(self.output.into());
        output.and_then(|output| u64::try_from(output).ok()).map_or(most, |it| it.min(most))
    }

    /// True if tokens of the output have a weight.
    #[must_use]
    pub fn weighs_output(&self) -> bool {
        self.output > 0
    }

    fn weighs_input(&self) -> bool {
        self.input > 0 || self.cached_input > 0 || self.cache_write > 0
    }

    fn parts_of_input(&self, usage: &TokenUsage) -> Option<u128> {
        let cached = usage.cached_input.unwrap_or(0);
        let written = usage.cache_write.unwrap_or(0);
        let plain = usage.input?.saturating_sub(cached + written);
        Some(
            self.weight(self.input, plain)
                + self.weight(self.cached_input, cached)
                + self.weight(self.cache_write, written),
        )
    }

    /// Below 2^107: tokens are below 2^43.
    fn weight(&self, weight: u64, tokens: u64) -> u128 {
        debug_assert!(self.parts > 0);
        u128::from(weight) * u128::from(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(plain: u64, cached: u64, written: u64, output: u64) -> TokenUsage {
        let input = plain + cached + written;
        TokenUsage {
            input: Some(input),
            cached_input: Some(cached),
            cache_write: Some(written),
            output: Some(output),
            total: Some(input + output),
        }
    }

    /// The prices of the catalog's reference, in microdollars per million tokens.
    const PRICE: Weights = Weights {
        input: 1_250_000,
        cached_input: 125_000,
        cache_write: 1_250_000,
        output: 10_000_000,
        parts: 1_000_000,
    };
    const BURNDOWN: Weights =
        Weights { input: 1_000, cached_input: 0, cache_write: 1_000, output: 5_000, parts: 1_000 };

    #[test]
    #[rustfmt::skip]
    fn a_sum_is_rounded_up_once() {
        let cases = [
            // 163 * 1.25 + 1024 * 0.125 + 431 * 10 = 203.75 + 128 + 4310
            (PRICE,    usage(163, 1024, 0, 431),  4_642),
            (PRICE,    usage(1, 0, 0, 0),         2),
            (PRICE,    usage(0, 1, 0, 0),         1),
            (PRICE,    usage(0, 0, 0, 0),         0),
            (PRICE,    usage(4, 8, 0, 1),         16),
            (BURNDOWN, usage(163, 1024, 10, 431), 2_328),
            (Weights { input: 1, ..BURNDOWN }, usage(1, 0, 0, 0), 1),
            (Weights { input: 1, ..BURNDOWN }, usage(1_001, 0, 0, 0), 2),
            (Weights::INPUT,  usage(3, 4, 5, 6),  12),
            (Weights::OUTPUT, usage(3, 4, 5, 6),  6),
            (Weights::TOTAL,  usage(3, 4, 5, 6),  18),
            (Weights { output: 1 << 40, parts: 1, ..PRICE }, usage(0, 0, 0, 1 << 40), MAX_COST),
        ];
        for (weights, usage, expected) in cases {
            assert_eq!(weights.weigh(&usage), Some(expected), "{weights:?} of {usage:?}");
        }
    }

    #[test]
    fn a_sum_is_known_if_all_that_has_a_weight_is() {
        let input_only = TokenUsage { input: Some(8), ..TokenUsage::default() };
        let output_only = TokenUsage { output: Some(8), ..TokenUsage::default() };
        assert_eq!(Weights::INPUT.weigh(&input_only), Some(8));
        assert_eq!(Weights::OUTPUT.weigh(&output_only), Some(8));
        assert_eq!(Weights { output: 0, ..PRICE }.weigh(&input_only), Some(10));
        for usage in [input_only, output_only, TokenUsage::default()] {
            assert_eq!((PRICE.weigh(&usage), Weights::TOTAL.weigh(&usage)), (None, None));
        }
    }

    #[test]
    fn the_largest_output_of_a_weight_of_none_is_the_most() {
        assert_eq!(Weights::INPUT.largest_output(&usage(9, 0, 0, 0), 5, 77), 77);
        assert_eq!(Weights::OUTPUT.largest_output(&TokenUsage::default(), 5, 77), 5);
        assert_eq!(Weights::TOTAL.largest_output(&usage(9, 0, 0, 0), 5, 77), 0);
    }

    proptest! {
        #[test]
        fn the_largest_output_fits_and_one_token_more_does_not(
            weights in prop::array::uniform4(0..2_000_000_u64),
            parts in prop::sample::select(vec![1_u64, 1_000, 1_000_000]),
            input in prop::array::uniform3(0..1_000_000_000_u64),
            units in 0..1_u64 << 53,
            most in 0..1_000_000_000_u64,
        ) {
            let [input_weight, cached_input, cache_write, output] = weights;
            let weights = Weights { input: input_weight, cached_input, cache_write, output, parts };
            let [plain, cached, written] = input;
            let with = |output| weights.weigh(&usage(plain, cached, written, output)).unwrap();
            let largest = weights.largest_output(&usage(plain, cached, written, 0), units, most);
            prop_assert!(largest <= most);
            if with(0) <= units {
                prop_assert!(with(largest) <= units);
                prop_assert!(largest == most || with(largest + 1) > units);
            } else {
                prop_assert!(largest == 0 || !weights.weighs_output());
            }
        }

        #[test]
        fn charging_two_parts_costs_no_less_than_charging_their_sum(
            one in prop::array::uniform4(0..1_000_000_u64),
            other in prop::array::uniform4(0..1_000_000_u64),
        ) {
            let read = |[a, b, c, d]: [u64; 4]| usage(a, b, c, d);
            let sum = std::array::from_fn(|kind| one[kind] + other[kind]);
            let apart = PRICE.weigh(&read(one)).unwrap() + PRICE.weigh(&read(other)).unwrap();
            let together = PRICE.weigh(&read(sum)).unwrap();
            prop_assert!(together <= apart && apart <= together + 1);
        }
    }
}
