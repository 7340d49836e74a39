//! The most entries of each kind that a catalog may have, counted over the file and what the admin
//! API declares.
//!
//! They bound how long a catalog takes to compose, and how long it takes to find the limits of a
//! check. The limits of one owner are bounded by the charges of a check (`limits`), the policies of
//! a key in `key_policies`.

use super::validation::Report;

/// APIs.
pub(super) const MAX_APIS: usize = 1_000;
/// Stages of an API, and stages that a plan serves.
pub(super) const MAX_STAGES: usize = 1_000;
/// Methods with limits, of a stage or of a plan's stage: a check is compared with each.
pub(super) const MAX_METHODS: usize = 1_000;
/// Usage plans.
pub(super) const MAX_PLANS: usize = 10_000;
/// Policies.
pub(super) const MAX_POLICIES: usize = 10_000;
/// API keys of a catalog file. The registry may have any number.
pub(super) const MAX_FILE_KEYS: usize = 200_000;
/// Plans of an API key.
pub const MAX_KEY_PLANS: usize = 16;
/// Models with a price or a size, and units with weights.
pub(super) const MAX_MODELS: usize = 5_000;
/// Models of a limit: a check is compared with each.
pub(super) const MAX_LIMIT_MODELS: usize = 100;
/// Limits of all owners together, meters included.
pub(super) const MAX_LIMITS: usize = 200_000;
/// Envoy's descriptors with a `*` beside each other: a request is compared with each.
pub(super) const MAX_PATTERNS: usize = 1_000;

/// True if a list at `at` has no more than `max` entries; reports it otherwise.
pub(super) fn check_count(at: &str, count: usize, max: usize, report: &mut Report) -> bool {
    if count > max {
        report.error(at, format_args!("{count} entries, and at most {max} are allowed"));
    }
    count <= max
}

/// The entries of one list in all parts of a catalog, each with its path. If there are more than
/// `max`, it reports that and returns none.
pub(super) fn numbered<'r, T>(
    at: &str,
    lists: impl Iterator<Item = &'r [T]> + Clone,
    max: usize,
    report: &mut Report,
) -> Vec<(String, &'r T)> {
    if !check_count(at, lists.clone().map(<[T]>::len).sum(), max, report) {
        return Vec::new();
    }
    lists.flatten().enumerate().map(|(index, entry)| (format!("{at}[{index}]"), entry)).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use crate::catalog::{Catalog, CatalogFile};

    /// `entry` of each number, as a list in YAML's flow style.
    fn list(count: usize, entry: impl Fn(usize) -> String) -> String {
        let mut list = String::from("[");
        for number in 0..count {
            write!(list, "{},", entry(number)).unwrap();
        }
        list + "]"
    }

    /// The members of an object in YAML's flow style.
    fn object(count: usize, member: impl Fn(usize) -> String) -> String {
        let list = list(count, member);
        format!("{{{}}}", &list[1..list.len() - 1])
    }

    /// The declarations with so many entries.
    type Declare<'a> = &'a dyn Fn(usize) -> String;

    const THROTTLE: &str = "throttle: { rate: 1/s, burst: 1 }";

    fn stages(count: usize) -> String {
        let stages = list(count, |n| format!("{{ name: s{n} }}"));
        format!("apis: [{{ id: a, stages: {stages} }}]")
    }

    fn methods(count: usize) -> String {
        let methods = object(count, |n| format!("\"GET /{n}\": {{ {THROTTLE} }}"));
        format!("apis: [{{ id: a, stages: [{{ name: s, methods: {methods} }}] }}]")
    }

    fn limits(count: usize) -> String {
        let limits = list(count, |n| format!("{{ name: l{n}, unit: u{n}, {THROTTLE} }}"));
        format!("plans: [{{ id: p, limits: {limits} }}]")
    }

    fn plans_of_a_key(count: usize) -> String {
        let plans = list(count, |n| format!("{{ id: p{n}, alongside: true, {THROTTLE} }}"));
        let ids = list(count, |n| format!("p{n}"));
        format!("plans: {plans}\nkeys: [{{ id: k, value: v, plans: {ids} }}]")
    }

    #[test]
    fn each_bound_is_an_error_that_names_the_list_and_the_bound() {
        let models = |n| {
            let names = list(n, |n| format!("m{n}"));
            format!("plans: [{{ id: p, limits: [{{ name: l, models: {names}, {THROTTLE} }}] }}]")
        };
        let served = |n| {
            let served = list(n, |n| format!("{{ api: a, stage: s{n} }}"));
            format!("{}\nplans: [{{ id: p, {THROTTLE}, api_stages: {served} }}]", stages(1_000))
        };
        let prices = |n| format!("models: {}", object(n, |n| format!("m{n}: {{ max_output: 1 }}")));
        let apis = |n| format!("apis: {}", list(n, |n| format!("{{ id: a{n} }}")));
        let policies =
            |n| format!("policies: {}", list(n, |n| format!("{{ name: p{n}, {THROTTLE} }}")));
        let plans = |n| format!("plans: {}", list(n, |n| format!("{{ id: p{n}, {THROTTLE} }}")));
        #[rustfmt::skip]
        let cases: [(Declare<'_>, usize, &str); 10] = [
            (&apis, 1_000, "apis: 1001 entries, and at most 1000"),
            (&stages, 1_000, "apis[0].stages: 1001 entries, and at most 1000"),
            (&methods, 1_000, "apis[0].stages[0].methods: 1001 entries, and at most 1000"),
            (&plans, 10_000, "plans: 10001 entries, and at most 10000"),
            (&served, 1_000, "plans[0].api_stages: 1001 entries, and at most 1000"),
            (&limits, 250, "plans[0].limits: a check is judged by at most 250 limits, and these are 251"),
            (&models, 100, "plans[0].limits[0].models: 101 entries, and at most 100"),
            (&policies, 10_000, "policies: 10001 entries, and at most 10000"),
            (&plans_of_a_key, 16, "keys[0].plans: 17 entries, and at most 16"),
            (&prices, 5_000, "models: 5001 entries, and at most 5000"),
        ];
        for (declare, most, expected) in cases {
            let catalog = |count| Catalog::parse(&format!("version: 1\n{}", declare(count)), "t");
            assert!(catalog(most).is_ok(), "{expected}: {:?}", catalog(most).err());
            let errors = catalog(most + 1).err().unwrap().errors().join("\n");
            assert!(errors.contains(expected), "{expected}: {errors}");
        }
    }

    #[test]
    fn of_many_errors_and_warnings_a_hundred_are_written_out() {
        let keys = |key: &str| {
            let keys = list(1_000, |n| format!("{{ id: k{n}, value: v{n}, {key} }}"));
            Catalog::parse(&format!("version: 1\nkeys: {keys}"), "t")
        };
        let errors = keys("plans: [none]").err().unwrap();
        assert_eq!(
            (errors.errors().len(), &*errors.errors()[100]),
            (101, "and 900 further errors")
        );
        let warnings = keys("plans: []").unwrap().warnings().to_vec();
        assert_eq!((warnings.len(), &*warnings[100]), (101, "t: and 900 further warnings"));
    }

    /// The processor time of composing a catalog, the shortest of three: others use the machine.
    fn cost(declared: &str) -> Duration {
        let file = CatalogFile::parse(&format!("version: 1\n{declared}"), "t").unwrap();
        let compose = || {
            let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
            let began = now();
            let composed = Catalog::compose(&file, "t", None);
            let took = now().saturating_sub(began);
            assert!(composed.is_ok(), "{:?}", composed.err());
            took
        };
        (0..3).map(|_| compose()).min().unwrap()
    }

    #[test]
    fn four_times_the_entries_take_about_four_times_as_long() {
        let many_plans = |n| {
            let limits = list(20, |n| format!("{{ name: l{n}, unit: u{n}, {THROTTLE} }}"));
            let plans = list(n / 20, |n| format!("{{ id: p{n}, limits: {limits} }}"));
            format!("plans: {plans}")
        };
        let overrides = |n| {
            let sizes = object(n, |n| format!("l{n}: {{ {THROTTLE} }}"));
            let overrides = format!("overrides: {{ p: {{ limits: {sizes} }} }}");
            format!("{}\nkeys: [{{ id: k, value: v, plans: [p], {overrides} }}]", limits(n))
        };
        // Each key is on two plans of many stages, and has a policy.
        let keys = |n| {
            let served =
                |half: usize| list(n / 2, |n| format!("{{ api: a, stage: s{} }}", 2 * n + half));
            let plan =
                |id, half| format!("{{ id: {id}, {THROTTLE}, api_stages: {} }}", served(half));
            let key =
                |n| format!("{{ id: k{n}, value: v{n}, plans: [p, q], policies: {{ t: k }} }}");
            let policies = format!("policies: [{{ name: t, {THROTTLE} }}]");
            let plans = format!("plans: [{}, {}]", plan("p", 0), plan("q", 1));
            format!("{}\n{plans}\n{policies}\nkeys: {}", stages(n), list(n, key))
        };
        let cases: [(&str, Declare<'_>, usize); 5] = [
            ("limits", &limits, 60),
            ("plans", &many_plans, 2_000),
            ("methods", &methods, 250),
            ("overrides", &overrides, 60),
            ("keys on plans of many stages", &keys, 250),
        ];
        for (what, declare, size) in cases {
            let ratio =
                || cost(&declare(4 * size)).as_secs_f64() / cost(&declare(size)).as_secs_f64();
            // A quadratic cost has the ratio 16.
            let least = (0..3).map(|_| ratio()).fold(f64::INFINITY, f64::min);
            assert!(least < 8.0, "{what}: {least:.1} times as long");
        }
    }
}
