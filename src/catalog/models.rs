//! Models with their prices, and units that weigh tokens by kind: how they are written, and what
//! they become.
//!
//! Sums are `inference`'s. Only a catalog file declares models and units: AWS has nothing like
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::algorithms::Scalar;
use super::bounds::{MAX_LIMIT_MODELS, MAX_MODELS, check_count};
use super::raw::RawCatalog;
use super::validation::Report;
use crate::inference::{MAX_ESTIMATE, Model, Pricing, Weights};
use crate::limit::{ModelPattern, Unit};

/// A model: its price in microdollars per million tokens, and the size of its responses.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    /// Price of the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Price of input from a cache; that of the input if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// Price of input that is written to a cache; that of the input if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Price of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// The most tokens of a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
}

/// Models by their names, which may end in `*`.
pub type RawModels = BTreeMap<String, RawModel>;

/// A unit: the weight of a token of each kind.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawUnit {
    /// Weight of the input; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<RawWeight>,
    /// Weight of input from a cache; that of the input if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<RawWeight>,
    /// Weight of input that is written to a cache; that of the input if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<RawWeight>,
    /// Weight of the output; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<RawWeight>,
}

/// Units by their names.
pub type RawUnits = BTreeMap<String, RawUnit>;

/// A number with up to three decimals, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawWeight(pub String);

impl<'de> Deserialize<'de> for RawWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar("a number with up to three decimals")).map(Self)
    }
}

/// The highest price: a dollar for a token.
const MAX_PRICE: u64 = 1_000_000_000_000;
/// The price's tokens.
const TOKENS_OF_A_PRICE: u64 = 1_000_000;
/// The highest weight.
const MAX_WEIGHT: u64 = 1_000_000;
/// The parts of a weight.
const THOUSANDTHS: u64 = 1_000;

/// The models and the units of all parts of a catalog.
pub(super) fn build_pricing(parts: &[&RawCatalog], report: &mut Report) -> Pricing {
    let counts = [
        ("models", parts.iter().map(|part| part.models.len()).sum()),
        ("units", parts.iter().map(|part| part.units.len()).sum()),
    ];
    if !counts.into_iter().all(|(at, count)| check_count(at, count, MAX_MODELS, report)) {
        return Pricing::default();
    }
    let models = parts.iter().flat_map(|part| &part.models);
    let models = models.filter_map(|(name, raw)| build_model(name, raw, report)).collect();
    let units = parts.iter().flat_map(|part| &part.units);
    let units: Vec<_> = units.filter_map(|(name, raw)| build_unit(name, raw, report)).collect();
    Pricing::new(models, units)
}

fn build_model(name: &str, raw: &RawModel, report: &mut Report) -> Option<(ModelPattern, Model)> {
    let at = format!("models.{}", name.escape_debug());
    let pattern = name.parse().map_err(|error| report.error(&at, error)).ok();
    let members = [
        ("input", raw.input),
        ("cached_input", raw.cached_input),
        ("cache_write", raw.cache_write),
        ("output", raw.output),
    ];
    for (member, _) in members.iter().filter(|(_, price)| price.is_some_and(|it| it > MAX_PRICE)) {
        report.error(
            &format!("{at}.{member}"),
            "a price has at most 1000000000000 microdollars per million tokens: a dollar a token",
        );
    }
    if raw.max_output.is_some_and(|most| !(1..=MAX_ESTIMATE).contains(&most)) {
        report.error(
            &format!("{at}.max_output"),
            format_args!(
                "the most tokens of an answer are a whole number from 1 to {MAX_ESTIMATE}"
            ),
        );
    }
    let price = raw.input.zip(raw.output).map(|(input, output)| Weights {
        input,
        cached_input: raw.cached_input.unwrap_or(input),
        cache_write: raw.cache_write.unwrap_or(input),
        output,
        parts: TOKENS_OF_A_PRICE,
    });
    if price.is_none() && members.iter().any(|(_, price)| price.is_some()) {
        report.error(&at, "a price has both an `input` and an `output`; 0 is free");
    } else if price.is_none() && raw.max_output.is_none() {
        report.error(&at, "a model has a price, a `max_output`, or both");
    }
    Some((pattern?, Model { price, max_output: raw.max_output }))
}

fn build_unit(name: &str, raw: &RawUnit, report: &mut Report) -> Option<(Arc<str>, Weights)> {
    let at = format!("units.{}", name.escape_debug());
    let unit = report.check_name(&at, name);
    if Unit::BUILT_IN.contains(&name) {
        report.error(&at, "this unit exists in every catalog; choose another name");
        return None;
    }
    let mut weight = |member: &str, raw: &Option<RawWeight>, default: u64| {
        let Some(RawWeight(text)) = raw else { return default };
        parse_thousandths(text).unwrap_or_else(|| {
            report.error(
                &format!("{at}.{member}"),
                format_args!(
                    "a weight is a number from 0 to {MAX_WEIGHT} with at most three decimals"
                ),
            );
            1
        })
    };
    let input = weight("input", &raw.input, 0);
    let weights = Weights {
        input,
        cached_input: weight("cached_input", &raw.cached_input, input),
        cache_write: weight("cache_write", &raw.cache_write, input),
        output: weight("output", &raw.output, 0),
        parts: THOUSANDTHS,
    };
    let Weights { input, cached_input, cache_write, output, .. } = weights;
    if input.max(cached_input).max(cache_write).max(output) == 0 {
        report.error(&at, "the unit counts nothing; give a kind of token a weight above 0");
    }
    Some((unit, weights))
}

/// A decimal number as thousandths, exactly; `None` if it is none, or out of range.
fn parse_thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 3 {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    let thousandths = whole.parse::<u64>().ok()?.checked_mul(THOUSANDTHS)?.checked_add(decimals)?;
    (thousandths <= MAX_WEIGHT * THOUSANDTHS).then_some(thousandths)
}

/// The models of a limit, written at `at`.
pub(super) fn build_model_patterns(
    raw: &[String],
    at: &str,
    report: &mut Report,
) -> Vec<ModelPattern> {
    if raw.is_empty() {
        report.error(at, "name the models that the limit counts, or leave it out for all");
    }
    if !check_count(at, raw.len(), MAX_LIMIT_MODELS, report) {
        return Vec::new();
    }
    let mut patterns = Vec::new();
    for (index, name) in raw.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match name.parse::<ModelPattern>() {
            Err(error) => report.error(&at, error),
            Ok(pattern) if patterns.contains(&pattern) => {
                report.error(&at, format_args!("the model `{pattern}` is there twice; keep one"));
            }
            Ok(pattern) => patterns.push(pattern),
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_weight_is_exact_to_three_decimals() {
        let cases = [
            ("0", Some(0)), ("5", Some(5_000)), ("0.1", Some(100)), ("1.25", Some(1_250)), ("0.001", Some(1)),
            ("1000000", Some(1_000_000_000)), ("1.0", Some(1_000)),
            ("1000000.001", None), ("0.0001", None), ("-1", None), ("1e3", None), (".5", None), ("1.", None),
            ("+1", None), ("", None), ("NaN", None), ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_thousandths(text), expected, "{text}");
        }
    }
}
