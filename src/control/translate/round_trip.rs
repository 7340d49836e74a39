//! The property that both directions agree: a part of a catalog that AWS' form expresses exactly
//! comes back as it was.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::{
    Losses, overrides_from_catalog, overrides_to_catalog, plan_from_catalog, plan_to_catalog,
    stage_from_catalog, stage_to_catalog,
};
use crate::algorithm::Rate;
use crate::catalog::raw::{
    Consistency, Mode, RawAccess, RawApiStage, RawLimit, RawMethod, RawMethods, RawOverrides,
    RawPeriod, RawPlan, RawPlanOverrides, RawQuota, RawQuotaOverride, RawRate, RawStage, RawStart,
    RawThrottle, RawThrottleOverride,
};
use crate::failure_policy::FailurePolicy;

/// Rates of which about half are decimal numbers per second.
fn rate() -> impl Strategy<Value = RawRate> {
    let number = prop_oneof![
        (1..100_000_u32).prop_map(|number| number.to_string()),
        (1..1_000_000_u32).prop_map(|thousandths| format!("{}", f64::from(thousandths) / 1e3)),
    ];
    (number, select(vec!["s", "s", "min", "h", "d"]))
        .prop_map(|(number, unit)| RawRate(format!("{number}/{unit}")))
}

fn throttle() -> impl Strategy<Value = RawThrottle> {
    (rate(), 1..1_000_000_u64).prop_map(|(rate, burst)| RawThrottle { rate, burst })
}

fn quota() -> impl Strategy<Value = RawQuota> {
    let weekday = select(vec!["monday", "Tuesday", "saturday", "sunday"]).prop_map(str::to_owned);
    let day = (1..=31_u8).prop_map(|day| day.to_string());
    let period = prop_oneof![
        Just((RawPeriod::Day, None)),
        option::of(weekday).prop_map(|start| (RawPeriod::Week, start)),
        option::of(day).prop_map(|start| (RawPeriod::Month, start)),
    ];
    let zone = option::of(Just("Europe/Berlin".to_owned()));
    (1..1_000_000_u64, period, zone).prop_map(|(limit, (period, starts_on), time_zone)| RawQuota {
        limit,
        period,
        time_zone,
        starts_on: starts_on.map(RawStart),
    })
}

fn methods() -> impl Strategy<Value = RawMethods> {
    let names = vec!["GET /", "GET /pets", "ANY /pets", "POST /~me/{id}", "DELETE /pets/*", "*"];
    let throttle = throttle().prop_map(|throttle| RawMethod { throttle });
    btree_map(select(names).prop_map(str::to_owned), throttle, 0..4)
}

fn stage() -> impl Strategy<Value = RawStage> {
    let consistency = option::of(select(vec![Consistency::Exact, Consistency::Leased]));
    (option::of(throttle()), methods(), limits(), consistency).prop_map(
        |(throttle, methods, limits, consistency)| RawStage {
            access: RawAccess::default(),
            name: "prod".into(),
            throttle,
            methods,
            limits,
            consistency,
        },
    )
}

fn limits() -> impl Strategy<Value = Vec<RawLimit>> {
    let size = prop_oneof![
        throttle().prop_map(|it| json!({ "name": "t", "throttle": it, "mode": "shadow" })),
        quota().prop_map(
            |it| json!({ "name": "q", "unit": "total_tokens", "models": ["gpt-5*"], "quota": it })
        ),
        (1..100_u64)
            .prop_map(|it| json!({ "name": "c", "concurrency": { "limit": it, "ttl": "30s" } })),
    ];
    vec(size.prop_map(|limit| serde_json::from_value(limit).unwrap()), 0..3)
}

fn plan() -> impl Strategy<Value = RawPlan> {
    let served = methods().prop_map(|methods| RawApiStage {
        api: "pets".into(),
        stage: "prod".into(),
        methods,
    });
    let sizes = (option::of(throttle()), option::of(quota()), limits());
    let words = (
        option::of(select(vec![FailurePolicy::Local, FailurePolicy::Closed])),
        option::of(select(vec![Consistency::Exact, Consistency::Leased])),
        option::of(select(vec![Mode::Enforce, Mode::Shadow])),
        any::<bool>(),
    );
    (option::of(vec(served, 0..3)), sizes, words).prop_map(|(api_stages, sizes, words)| {
        let ((throttle, quota, limits), words) = (sizes, words);
        let (on_store_failure, consistency, mode, alongside) = words;
        RawPlan {
            id: "basic".into(),
            api_stages,
            alongside,
            throttle,
            quota,
            limits,
            on_store_failure,
            consistency,
            mode,
        }
    })
}

fn overrides() -> impl Strategy<Value = RawOverrides> {
    let throttle = prop_oneof![
        rate().prop_map(|rate| RawThrottleOverride { rate: Some(rate), burst: None }),
        (option::of(rate()), 1..100_u64)
            .prop_map(|(rate, burst)| RawThrottleOverride { rate, burst: Some(burst) }),
    ];
    let quota = (1..100_u64).prop_map(|limit| RawQuotaOverride { limit });
    let limit = (select(vec!["quota", "concurrency"]), 1..100_u64).prop_map(|(kind, limit)| {
        serde_json::from_value(json!({ kind: { "limit": limit } })).unwrap()
    });
    let limits = btree_map(Just("tpm".to_owned()), limit, 0..2);
    let plan = (option::of(throttle), option::of(quota), limits)
        .prop_map(|(throttle, quota, limits)| RawPlanOverrides { throttle, quota, limits });
    btree_map(select(vec!["a", "b"]).prop_map(str::to_owned), plan, 0..3)
}

/// A rate as AWS' form has it: the same rate, in another text.
fn per_second(rate: &mut RawRate) {
    let exact: Rate = rate.0.parse().unwrap();
    rate.0 = format!("{}/s", exact.per_second());
}

fn methods_per_second(methods: &mut RawMethods) {
    for method in methods.values_mut() {
        per_second(&mut method.throttle.rate);
    }
}

/// The same quota with its default start written out.
fn with_start(quota: &mut RawQuota) {
    let start = quota.starts_on.take().map(|start| start.0.to_ascii_lowercase());
    quota.starts_on = match quota.period {
        RawPeriod::Day => None,
        RawPeriod::Week => Some(RawStart(start.unwrap_or_else(|| "monday".into()))),
        RawPeriod::Month => Some(RawStart(start.unwrap_or_else(|| "1".into()))),
    };
}

fn starts_late(quota: &RawQuota) -> bool {
    let day = quota.starts_on.as_ref().and_then(|start| start.0.parse::<u8>().ok());
    day.is_some_and(|day| day > 28)
}

/// The rates of throttles that are no decimal numbers per second.
fn inexact<'r>(rates: impl IntoIterator<Item = &'r RawRate>) -> usize {
    let exact = |rate: &&RawRate| {
        let parsed: Rate = rate.0.parse().unwrap();
        format!("{}/s", parsed.per_second()).parse() == Ok(parsed)
    };
    rates.into_iter().filter(|rate| !exact(rate)).count()
}

fn rates(methods: &RawMethods) -> impl Iterator<Item = &RawRate> {
    methods.values().map(|method| &method.throttle.rate)
}

proptest! {
    #[test]
    fn a_plan_without_losses_comes_back_and_every_loss_is_reported(plan in plan()) {
        let mut losses = Losses::new();
        let translated = plan_from_catalog(&plan, "plans[0]", &mut losses);
        let served = || plan.api_stages.iter().flatten();
        let expected = inexact(plan.throttle.iter().map(|it| &it.rate))
            + inexact(served().flat_map(|served| rates(&served.methods)))
            + served().filter(|served| served.methods.contains_key("*")).count()
            + plan.quota.iter().filter(|quota| starts_late(quota)).count();
        prop_assert_eq!(losses.len(), expected, "{:?}", losses);
        if losses.is_empty() {
            let mut normal = plan;
            normal.throttle.iter_mut().for_each(|throttle| per_second(&mut throttle.rate));
            normal.quota.iter_mut().for_each(with_start);
            for served in normal.api_stages.iter_mut().flatten() {
                methods_per_second(&mut served.methods);
            }
            let back = plan_to_catalog(&translated).unwrap();
            prop_assert_eq!(json!(back), json!(normal));
            let again = plan_from_catalog(&back, "plans[0]", &mut losses);
            prop_assert_eq!(json!(again), json!(translated));
        }
    }

    #[test]
    fn a_stage_without_losses_comes_back_and_every_loss_is_reported(stage in stage()) {
        let mut losses = Losses::new();
        let translated = stage_from_catalog(&stage, "apis[0].stages[0]", &mut losses);
        let own = stage.throttle.iter().map(|it| &it.rate);
        prop_assert_eq!(losses.len(), inexact(own.chain(rates(&stage.methods))));
        if losses.is_empty() {
            let mut normal = stage;
            normal.throttle.iter_mut().for_each(|throttle| per_second(&mut throttle.rate));
            methods_per_second(&mut normal.methods);
            let back = stage_to_catalog(&translated).unwrap();
            prop_assert_eq!(json!(back), json!(normal));
        }
    }

    #[test]
    fn overrides_without_losses_come_back(overrides in overrides()) {
        let mut losses = Losses::new();
        let translated = overrides_from_catalog(&overrides, "overrides", &mut losses);
        if losses.is_empty() {
            let mut normal: BTreeMap<_, _> = overrides;
            let throttles = normal.values_mut().filter_map(|plan| plan.throttle.as_mut());
            throttles.filter_map(|it| it.rate.as_mut()).for_each(per_second);
            prop_assert_eq!(json!(overrides_to_catalog(&translated).unwrap()), json!(normal));
        }
    }
}
