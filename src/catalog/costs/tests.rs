//! Costs of checks, reservations and settlements, with plans of each kind.

use std::sync::Arc;

use super::*;
use crate::time::Micros;

const CATALOG: &str = r#"
version: 1
models:
  "gpt-5*": { input: 1250000, cached_input: 125000, output: 10000000, max_output: 128000 }
  tiny: { max_output: 300 }
  unbounded: { input: 1, output: 1 }
units:
  burndown: { input: 1, cached_input: 0, cache_write: 1, output: 5 }
plans:
  - id: tokens
    throttle: { rate: 10/s, burst: 10 }
    limits:
      - { name: tpm, unit: total_tokens, throttle: { rate: 1000/min, burst: 1000 } }
      - { name: gpt5, models: ["gpt-5*"], unit: burndown, throttle: { rate: 1000/min, burst: 9000 } }
  - { id: money, limits: [ { name: spend, unit: cost_microusd, quota: { limit: 1000000, period: day } } ] }
  - { id: tried, mode: shadow, limits: [ { name: spend, unit: cost_microusd, quota: { limit: 1000000, period: day } } ] }
  - { id: output, limits: [ { name: out, unit: output_tokens, throttle: { rate: 1/s, burst: 100 } } ] }
  - { id: requests, throttle: { rate: 10/s, burst: 10 } }
keys:
  - { id: tokens, value: a, plans: [tokens] }
  - { id: money, value: b, plans: [money] }
  - { id: tried, value: c, plans: [tried] }
  - { id: output, value: d, plans: [output] }
  - { id: requests, value: e, plans: [requests] }
"#;

const UNKNOWN: TokenUsage =
    TokenUsage { input: None, cached_input: None, cache_write: None, output: None, total: None };
const INPUT: TokenUsage = TokenUsage { input: Some(100), ..UNKNOWN };
const BOTH: TokenUsage =
    TokenUsage { input: Some(100), cached_input: Some(40), output: Some(10), ..UNKNOWN };
const TOTAL: TokenUsage = TokenUsage { total: Some(50), ..UNKNOWN };

fn catalog() -> Catalog {
    Catalog::parse(CATALOG, "test").unwrap()
}

fn request<'a>(model: Option<&'a str>, usage: Option<&'a TokenUsage>) -> CheckRequest<'a> {
    CheckRequest {
        api: None,
        stage: None,
        method: None,
        path: None,
        policies: SmallVec::new(),
        cost: Cost::Requests(1),
        after_the_fact: false,
        model,
        usage,
    }
}

/// The charges of a check, without meters; or the field at fault.
fn resolve(catalog: &Catalog, key: &str, request: &CheckRequest<'_>) -> Result<Charges, String> {
    let key = catalog.key_by_id(key).map(Arc::clone);
    let resolved = catalog.resolve(request, key.as_ref(), Micros::new(0));
    let mut charges = resolved.map_err(field)?.charges;
    charges.retain(|charge| !charge.limit.is_meter());
    Ok(charges)
}

fn field(error: CheckError) -> String {
    match error {
        CheckError::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

fn amounts(charges: &Charges) -> Vec<(&str, u64)> {
    charges.iter().map(|charge| (&**charge.limit.name(), charge.cost)).collect()
}

#[test]
fn a_limit_of_models_applies_to_checks_of_them_and_to_those_that_name_none() {
    let catalog = catalog();
    let names = |model| {
        let charges = resolve(&catalog, "tokens", &request(model, Some(&BOTH))).unwrap();
        amounts(&charges).iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()
    };
    let all = ["tokens/throttle", "tokens/tpm", "tokens/gpt5"];
    assert_eq!(names(None), all);
    assert_eq!(names(Some("gpt-5-mini")), all);
    assert_eq!(names(Some("tiny")), all[..2]);
}

#[test]
fn a_usage_is_a_cost_in_every_unit_and_a_unit_in_the_cost_wins() {
    let catalog = catalog();
    let mut request = request(Some("gpt-5"), Some(&BOTH));
    let charges = resolve(&catalog, "tokens", &request).unwrap();
    let expected = [("tokens/throttle", 1), ("tokens/tpm", 110), ("tokens/gpt5", 110)];
    assert_eq!(amounts(&charges), expected);
    let named = [("burndown", 7), ("requests", 0)];
    request.cost = Cost::Units(named.map(|(unit, cost)| (unit.into(), cost)).into_iter().collect());
    let charges = resolve(&catalog, "tokens", &request).unwrap();
    let expected = [("tokens/throttle", 0), ("tokens/tpm", 110), ("tokens/gpt5", 7)];
    assert_eq!(amounts(&charges), expected);
    // 60 * 1.25 + 40 * 0.125 + 10 * 10
    let charges = resolve(&catalog, "money", &self::request(Some("gpt-5"), Some(&BOTH)));
    assert_eq!(amounts(&charges.unwrap()), [("money/spend", 180)]);
}

#[test]
fn a_part_that_is_unknown_costs_nothing_and_a_lone_total_only_counts_totals() {
    let catalog = catalog();
    let costs = |usage| {
        let charges = resolve(&catalog, "tokens", &request(None, Some(usage))).unwrap();
        charges.iter().map(|charge| charge.cost).collect::<Vec<_>>()
    };
    assert_eq!(costs(&INPUT), [1, 100, 100]);
    assert_eq!(costs(&TOTAL), [1, 50, 0]);
    assert_eq!(costs(&UNKNOWN), [1, 0, 0]);
}

#[test]
#[rustfmt::skip]
fn unpriced_model_is_free() {
    let catalog = catalog();
    let cases = [
        // key       model             usage          field at fault
        ("money",    Some("tiny"),     Some(&BOTH),   Some("model")),
        ("money",    Some("tiny"),     None,          Some("model")),
        ("money",    Some("other"),    Some(&INPUT),  Some("model")),
        ("money",    None,             Some(&BOTH),   Some("model")),
        ("money",    Some("gpt-5"),    Some(&TOTAL),  Some("usage")),
        ("money",    Some("gpt-5"),    Some(&BOTH),   None),
        ("money",    Some("gpt-5"),    None,          None),
        ("money",    None,             None,          None),
        ("money",    None,             Some(&UNKNOWN), None),
        ("tokens",   Some("other"),    Some(&BOTH),   None),
        ("tried",    Some("other"),    Some(&BOTH),   None),
    ];
    for (key, model, usage, expected) in cases {
        let error = resolve(&catalog, key, &request(model, usage)).err();
        assert_eq!(error.as_deref(), expected, "{key} {model:?} {usage:?}");
    }
    let priced_by_the_caller = CheckRequest {
        cost: Cost::Units([("cost_microusd".into(), 5)].into_iter().collect()),
        ..request(Some("other"), Some(&BOTH))
    };
    let charges = resolve(&catalog, "money", &priced_by_the_caller).unwrap();
    assert_eq!(amounts(&charges), [("money/spend", 5)]);
}

#[test]
#[rustfmt::skip]
fn a_reservation_without_an_output_takes_the_models_largest_that_could_fit() {
    let catalog = catalog();
    let full = TokenUsage { output: Some(20), ..INPUT };
    let cases = [
        // key       model             usage          costs of its limits, or the field at fault
        ("tokens",   Some("gpt-5"),    Some(&INPUT),  Ok(vec![1, 1_000, 4_600])),
        ("tokens",   Some("gpt-5"),    None,          Ok(vec![1, 1_000, 5_000])),
        ("tokens",   Some("gpt-5"),    Some(&full),   Ok(vec![1, 120, 200])),
        ("tokens",   Some("tiny"),     Some(&INPUT),  Ok(vec![1, 400])),
        ("tokens",   Some("other"),    Some(&INPUT),  Err("usage.output_tokens")),
        ("tokens",   None,             None,          Err("usage.output_tokens")),
        ("output",   Some("gpt-5"),    Some(&INPUT),  Ok(vec![100])),
        ("output",   None,             Some(&INPUT),  Err("usage.output_tokens")),
        ("money",    Some("gpt-5"),    Some(&INPUT),  Ok(vec![999_995])),
        ("money",    Some("unbounded"), Some(&INPUT), Err("usage.output_tokens")),
        ("tried",    Some("unbounded"), Some(&INPUT), Ok(vec![1])),
        ("requests", None,             Some(&INPUT),  Ok(vec![1])),
        ("requests", Some("gpt-5"),    None,          Ok(vec![1])),
    ];
    for (key, model, usage, expected) in cases {
        let request = request(model, usage);
        let mut charges = resolve(&catalog, key, &request).unwrap();
        let costs = catalog.reserve_costs(&request, &mut charges).map(|_| ()).map_err(field);
        let costs = costs.map(|()| charges.iter().map(|charge| charge.cost).collect::<Vec<_>>());
        assert_eq!(costs, expected.map_err(str::to_owned), "{key} {model:?} {usage:?}");
        let fits = charges.iter().all(|charge| !charge.exceeds_capacity());
        assert!(fits, "{key} {model:?} {usage:?}");
    }
}

#[test]
fn a_reservation_says_what_it_costs_in_each_unit() {
    let catalog = catalog();
    let full = TokenUsage { output: Some(20), ..INPUT };
    let request = request(Some("tiny"), Some(&full));
    let mut charges = resolve(&catalog, "tokens", &request).unwrap();
    let cost = catalog.reserve_costs(&request, &mut charges).unwrap();
    let named = |units: [&str; 6]| units.map(|unit| cost.named(unit));
    assert_eq!(
        named([
            "requests",
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "burndown",
            "cost_microusd"
        ]),
        [Some(1), Some(100), Some(20), Some(120), Some(200), None]
    );
}

#[test]
fn a_settlement_leaves_out_what_is_unknown_and_takes_the_reserved_models_price() {
    let catalog = catalog();
    let none = Cost::Units(SmallVec::new());
    let named = |model, usage: &TokenUsage| {
        let cost = catalog.settled_costs(model, Some("gpt-5"), usage, &none);
        ["requests", "output_tokens", "total_tokens", "burndown", "cost_microusd"]
            .map(|unit| cost.named(unit))
    };
    let all = |money| [None, Some(10), Some(110), Some(110), Some(money)];
    assert_eq!(named(Some("gpt-5-mini"), &BOTH), all(180));
    assert_eq!(named(Some("other"), &BOTH), all(180), "the reserved model's price");
    assert_eq!(named(None, &BOTH), all(180));
    assert_eq!(named(Some("unbounded"), &BOTH), all(1));
    assert_eq!(named(None, &INPUT), [None; 5]);
    assert_eq!(named(None, &TOTAL), [None, None, Some(50), None, None]);
}
