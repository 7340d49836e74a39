//! Concurrency limits in a catalog: their syntax, what they cannot be, and where they may be. Taking
//! slots is tested in `reservations::slots`.

use tollgate::algorithm::Counting as _;
use tollgate::catalog::{Catalog, CounterPlacement};
use tollgate::time::Micros;

fn plan(limits: &str) -> String {
    format!("version: 1\nplans: [{{ id: p, limits: [{limits}] }}]\n")
}

fn faults(text: &str) -> String {
    Catalog::parse(text, "c").err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn the_ttl_has_a_unit_and_a_default() {
    for (written, seconds) in [
        ("", 60),
        (", ttl: 1s", 1),
        (", ttl: 5min", 300),
        (", ttl: 1h", 3_600),
        (", ttl: '90 s'", 90),
    ] {
        let text = plan(&format!("{{ name: c, concurrency: {{ limit: 400{written} }} }}"));
        let catalog = Catalog::parse(&text, "c").unwrap();
        let limit = &catalog.plan_limits("p").unwrap()[0];
        assert_eq!(limit.algorithm().slot_ttl(), Some(Micros::from_secs(seconds)), "{written}");
        assert_eq!((limit.capacity(), limit.leased()), (400, false));
    }
}

#[test]
#[rustfmt::skip]
fn an_invalid_limit_is_refused_with_the_field_at_fault() {
    let cases = [
        ("{ name: c, concurrency: { limit: 0 } }",                                   "limits[0].concurrency.limit: the limit is a whole number of slots from 1 to 400"),
        ("{ name: c, concurrency: { limit: 401 } }",                                "limits[0].concurrency.limit: "),
        ("{ name: c, concurrency: { limit: 1, ttl: 61min } }",                       "limits[0].concurrency.ttl: the ttl is from 1s to 1h"),
        ("{ name: c, concurrency: { limit: 1, ttl: 0s } }",                          "limits[0].concurrency.ttl: the ttl is"),
        ("{ name: c, concurrency: { limit: 1, ttl: 60 } }",                          "limits[0].concurrency.ttl: write a whole number with its unit"),
        ("{ name: c, concurrency: { limit: 1, ttl: 1.5s } }",                        "limits[0].concurrency.ttl: write a whole number"),
        ("{ name: c, concurrency: { limit: 1, rate: 1/s } }",                        "rate"),
        ("{ name: c, concurrency: 5 }",                                              "limits[0].concurrency"),
        ("{ name: c, unit: total_tokens, concurrency: { limit: 1 } }",               "limits[0].unit: a concurrency limit counts open reservations"),
        ("{ name: c, consistency: leased, concurrency: { limit: 1 } }",              "limits[0].consistency: a concurrency limit cannot be leased"),
        ("{ name: c, concurrency: { limit: 1 }, quota: { limit: 1, period: day } }", "exactly one of `throttle`, `quota` and `concurrency`"),
    ];
    for (limit, expected) in cases {
        let text = faults(&plan(limit));
        assert!(text.contains(expected), "{limit}: {text}");
    }
}

#[test]
fn a_plan_without_a_limit_of_requests_is_warned_of() {
    let warnings = |more: &str| {
        let limits = format!("{{ name: c, concurrency: {{ limit: 1 }} }}{more}");
        Catalog::parse(&plan(&limits), "c").unwrap().warnings().join("\n")
    };
    let tokens = ", { name: t, unit: total_tokens, throttle: { rate: 1/s, burst: 1 } }";
    for more in ["", tokens] {
        assert!(warnings(more).contains("c: plans[0]: the plan `p` has reservations"), "{more}");
    }
    assert_eq!(warnings(", { name: r, throttle: { rate: 1/s, burst: 1 } }"), "");
}

#[test]
fn a_leased_plan_has_exact_slots() {
    let text = "version: 1\nplans: [{ id: p, consistency: leased, throttle: { rate: 1/s, burst: 9 }, limits: [{ name: c, concurrency: { limit: 1 } }] }]";
    let catalog = Catalog::parse(text, "c").unwrap();
    let leased: Vec<bool> =
        catalog.plan_limits("p").unwrap().iter().take(2).map(|limit| limit.leased()).collect();
    assert_eq!(leased, [true, false]);
}

#[test]
fn a_key_has_its_own_number_of_slots_in_the_plans_counter() {
    let catalog = |size: &str| {
        let plan = plan("{ name: c, concurrency: { limit: 5, ttl: 30s } }");
        format!(
            "{plan}keys: [{{ id: k, value: v, plans: [p], overrides: {{ p: {{ limits: {{ c: {size} }} }} }} }}]\n"
        )
    };
    let own = |size: &str| {
        let catalog = Catalog::parse(&catalog(size), "c").unwrap();
        let key = catalog.key_by_id("k").unwrap();
        let limit = catalog.plan_limits_for_key("p", key).unwrap()[0].clone();
        assert_eq!(limit.row(), catalog.plan_limits("p").unwrap()[0].row());
        (limit.capacity(), limit.algorithm().slot_ttl().unwrap())
    };
    assert_eq!(own("{ concurrency: { limit: 9 } }"), (9, Micros::from_secs(30)));
    assert_eq!(own("{ concurrency: { ttl: 1h } }"), (5, Micros::from_secs(3_600)));
    for (size, expected) in [
        ("{ concurrency: {} }", "overrides.p.limits.c.concurrency: write a limit, a ttl, or both"),
        ("{ concurrency: { limit: 0 } }", "concurrency: the limit is"),
        ("{ concurrency: { ttl: 1d } }", "overrides.p.limits.c.concurrency.ttl: write"),
        ("{ quota: { limit: 1 } }", "the plan's limit is of concurrency"),
    ] {
        let text = faults(&catalog(size));
        assert!(text.contains(expected), "{size}: {text}");
    }
}

#[test]
fn on_a_cluster_only_plans_have_slots() {
    let slots = "limits: [{ name: c, concurrency: { limit: 1 } }]";
    let text = format!(
        "version: 1\napis: [{{ id: a, stages: [{{ name: s, {slots} }}] }}]\nplans: [{{ id: p, {slots} }}]\npolicies: [{{ name: q, {slots} }}]\n"
    );
    let catalog = Catalog::parse(&text, "c").unwrap();
    assert!(catalog.check_placement(CounterPlacement::Together, "c").is_ok());
    let placement = CounterPlacement::PerSubject { leases: true };
    let errors = catalog.check_placement(placement, "c").unwrap_err();
    let [policy, stage] = errors.errors() else { panic!("{errors}") };
    assert!(policy.contains("policy:q/c") && policy.contains("only plans"), "{policy}");
    assert!(stage.contains("stage:a/s/c") && stage.contains("move it to a plan"), "{stage}");
}
